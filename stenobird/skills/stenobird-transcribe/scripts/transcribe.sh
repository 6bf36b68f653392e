#!/bin/sh
# Turns a link into text with Stenobird: prints the words as they come and saves the transcript.
# Needs a POSIX shell, curl, and what every system has beside them (awk, sed, od).

set -u

usage() {
    cat <<'HELP'
Usage: transcribe.sh [options] URL
       transcribe.sh [options] --resume ID

Prints the words of any public link with audio behind it as they are heard, and saves the transcript.
Without STENOBIRD_API_KEY it is a free preview of 15 seconds.

  -o, --output FILE    where to save (default: stenobird-<id>.<format> in this folder)
  -f, --format FORMAT  txt, srt, vtt, json or docx (default: txt)
  -l, --language CODE  what is spoken, such as en (default: detected)
  -p, --prompt TEXT    names and terms that are likely to be spoken
      --translate      write English, whatever is spoken
      --words          times for each word, in json
      --resume ID      come back to a transcript that was started before
  -q, --quiet          print only the words
  -h, --help           this text

Environment:
  STENOBIRD_API_KEY    key for whole transcripts
  STENOBIRD_API_URL    the service (default: https://stenobird.com)
  STENOBIRD_ATTEMPTS   tries in a row that may bring nothing before giving up (default: 30)

Exit status: 0 transcript or preview saved, 1 the transcript failed, 2 wrong usage, 3 the service can't be
reached, 4 the service refused the request, 5 the service stayed too busy, 130 interrupted.
HELP
}

fail() { # status, message
    status=$1
    shift
    printf 'stenobird: %s\n' "$*" >&2
    exit "$status"
}

note() {
    [ -n "$quiet" ] || printf '%s\n' "$*" >&2
}

# Prints a string or number field of the JSON on standard input: the first one of that name.
json_field() {
    LC_ALL=C awk -v name="$1" '
        BEGIN { for (i = 0; i < 16; i++) hex[substr("0123456789abcdef", i + 1, 1)] = i }
        function number_of(digits,    i, value) {
            for (i = 1; i <= 4; i++) value = value * 16 + hex[tolower(substr(digits, i, 1))]
            return value
        }
        function utf8(code) {
            if (code < 32 && code != 9 && code != 10) return ""
            if (code < 128) return sprintf("%c", code)
            if (code < 2048) return sprintf("%c%c", 192 + int(code / 64), 128 + code % 64)
            if (code < 65536)
                return sprintf("%c%c%c", 224 + int(code / 4096), 128 + int(code / 64) % 64, 128 + code % 64)
            return sprintf("%c%c%c%c", 240 + int(code / 262144), 128 + int(code / 4096) % 64, \
                128 + int(code / 64) % 64, 128 + code % 64)
        }
        # Reads the string that starts after the quote at position `at` into `read_text`.
        function read_string(at,    char, code, low) {
            read_text = ""
            for (at++; at <= size; at++) {
                char = substr(body, at, 1)
                if (char == "\"") return at + 1
                if (char != "\\") { read_text = read_text char; continue }
                char = substr(body, ++at, 1)
                if (char == "n") read_text = read_text "\n"
                else if (char == "t") read_text = read_text "\t"
                else if (char == "u") {
                    code = number_of(substr(body, at + 1, 4)); at += 4
                    if (code >= 55296 && code < 56320 && substr(body, at + 1, 2) == "\\u") {
                        low = number_of(substr(body, at + 3, 4)); at += 6
                        code = 65536 + (code - 55296) * 1024 + low - 56320
                    }
                    read_text = read_text utf8(code)
                }
                else if (index("\"\\/", char)) read_text = read_text char
            }
            return at
        }
        { body = body $0 "\n" }
        END {
            size = length(body)
            at = 1
            while (at <= size) {
                if (substr(body, at, 1) != "\"") { at++; continue }
                at = read_string(at)
                if (read_text != name) continue
                rest = substr(body, at)
                if (!match(rest, /^[ \t\n]*:[ \t\n]*/)) continue
                at += RLENGTH
                if (substr(body, at, 1) == "\"") { read_string(at); printf "%s", read_text; exit }
                if (match(substr(body, at), /^[-+.0-9a-zA-Z]+/)) {
                    printf "%s", substr(body, at, RLENGTH)
                    exit
                }
            }
        }'
}

# Prints standard input as a JSON string, quotes included.
json_string() {
    LC_ALL=C awk '
        { gsub(/\\/, "&&"); gsub(/"/, "\\\""); gsub(/\t/, " "); gsub(/[\001-\037]/, "") }
        NR > 1 { printf "\\n" }
        { if (NR == 1) printf "\""; printf "%s", $0 }
        END { if (NR == 0) printf "\""; printf "\"" }'
}

# curl with the key, which stays out of the process list.
call() {
    curl -sS --connect-timeout 15 -K "$work/curlrc" "$@"
}

http_status() {
    LC_ALL=C awk '/^HTTP\// { status = $2 } END { print status + 0 }' "$work/head" 2>/dev/null
}

error_text() {
    message=$(json_field message <"$1")
    code=$(json_field error <"$1")
    printf '%s%s' "${message:-the service answered without a reason}" "${code:+ ($code)}"
}

# Waits as long as an answer asks, else a little longer at each try; gives up after too many.
wait_before_retry() { # try, file with an answer, exit status and reason for giving up
    [ "$1" -lt "$attempts" ] || fail "$3" "$4"
    pause=$(json_field retry_after_seconds <"$2" 2>/dev/null | sed 's/[^0-9].*//')
    if [ -z "$pause" ]; then
        pause=$1
        [ "$pause" -le 10 ] || pause=10
    fi
    [ "$pause" -le 120 ] || pause=120
    sleep "$pause"
}

request_body() {
    printf '{"audio_url":%s' "$(printf '%s' "$url" | json_string)"
    [ -z "$language" ] || printf ',"language":%s' "$(printf '%s' "$language" | json_string)"
    [ -z "$prompt" ] || printf ',"prompt":%s' "$(printf '%s' "$prompt" | json_string)"
    [ -z "$translate" ] || printf ',"task":"translate"'
    [ -z "$words" ] || printf ',"word_timestamps":true'
    printf '}'
}

create() {
    request_body >"$work/request"
    # A request that is sent again after a broken connection must not make a second transcript.
    once=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
    try=0
    while :; do
        try=$((try + 1))
        : >"$work/head"
        : >"$work/answer"
        call -X POST --max-time 60 -D "$work/head" -o "$work/answer" -H 'Content-Type: application/json' \
            -H "Idempotency-Key: $once" --data-binary "@$work/request" "$api/v1/transcripts" 2>"$work/curl"
        status=$(http_status)
        case $status in
            2??)
                id=$(json_field id <"$work/answer")
                [ -n "$id" ] || fail 3 "$api does not look like a Stenobird service."
                return
                ;;
            409 | 429)
                case $(json_field error <"$work/answer") in
                    queue_busy | rate_limited | idempotency_in_progress) ;;
                    *) fail 4 "$(error_text "$work/answer")" ;;
                esac
                note "Busy, trying again: $(error_text "$work/answer")"
                wait_before_retry "$try" "$work/answer" 5 "$(error_text "$work/answer")"
                ;;
            0 | 5??)
                reason=$(sed -n '1s/^curl: //p' "$work/curl")
                [ "$status" = 0 ] || reason=$(error_text "$work/answer")
                wait_before_retry "$try" "$work/answer" 3 "$api can't be reached: $reason"
                ;;
            *) fail 4 "$(error_text "$work/answer")" ;;
        esac
    done
}

# Reads one event stream from standard input. Each event counts once it is whole; its id is noted then.
read_events() {
    event='' data='' event_id=''
    while IFS= read -r line || [ -n "$line" ]; do
        case $line in
            'id: '*) event_id=${line#id: } ;;
            'event: '*) event=${line#event: } ;;
            'data: '*) data=${line#data: } ;;
            '')
                [ -z "$event" ] || take_event
                event='' data=''
                ;;
            '{'*) printf '%s\n' "$line" >>"$work/refusal" ;;
        esac
    done
}

take_event() {
    case $event in
        status)
            text=$(printf '%s' "$data" | json_field message)
            [ -z "$text" ] || [ -s "$work/spoke" ] || note "$text"
            ;;
        transcript)
            # The dot keeps line feeds at the end, which $( ) would drop.
            text=$(printf '%s' "$data" | json_field text && printf .)
            printf '%s' "${text%.}"
            echo 1 >"$work/spoke"
            ;;
        preview_locked)
            printf '%s' "$data" >"$work/locked"
            ;;
        error)
            printf '%s' "$data" >"$work/error"
            ;;
        done)
            printf '%s' "$data" >"$work/done"
            ;;
    esac
    printf '%s' "$event_id" >"$work/last_id"
}

follow() {
    tries=0
    seen=0
    : >"$work/last_id"
    while :; do
        : >"$work/head"
        : >"$work/refusal"
        last_id=$(cat "$work/last_id")
        # A stream sends a comment every 15 seconds; one that is silent for a minute is dead.
        call -N -D "$work/head" --speed-limit 1 --speed-time 60 -H 'Accept: text/event-stream' \
            ${last_id:+-H "Last-Event-ID: $last_id"} "$api/v1/transcripts/$id/events" 2>"$work/curl" | read_events
        [ ! -s "$work/done" ] || return 0
        status=$(http_status)
        case $status in
            204) return 0 ;;
            0 | 200 | 429 | 5??) ;;
            *)
                [ ! -s "$work/spoke" ] || echo
                fail 4 "$(error_text "$work/refusal")"
                ;;
        esac
        last_id=$(cat "$work/last_id")
        if [ "${last_id:-0}" != "$seen" ]; then
            tries=0
            seen=$last_id
        fi
        tries=$((tries + 1))
        wait_before_retry "$tries" "$work/refusal" 3 \
            "$api can't be reached. The transcript goes on; come back to it with --resume $id"
    done
}

save() {
    [ -n "$output" ] || output=stenobird-$id.$format
    try=0
    while :; do
        try=$((try + 1))
        : >"$work/head"
        : >"$work/result"
        call --max-time 300 -D "$work/head" -o "$work/result" \
            "$api/v1/transcripts/$id/result?format=$format" 2>"$work/curl"
        broken=$?
        status=$(http_status)
        case $status in
            200)
                [ "$broken" -ne 0 ] || break
                : >"$work/result"
                ;;
            0 | 409 | 429 | 5??) ;;
            *) fail 1 "$(error_text "$work/result")" ;;
        esac
        wait_before_retry "$try" "$work/result" 3 \
            "The transcript can't be fetched now; come back to it with --resume $id"
    done
    if ! { cp "$work/result" "$output.part" && mv "$output.part" "$output"; }; then
        fail 2 "$output can't be written. Name another file with -o and --resume $id"
    fi
    note "Saved $output"
}

clean_up() {
    [ -z "${work:-}" ] || rm -rf "$work"
}

interrupted() {
    printf '\n' >&2
    [ -z "${id:-}" ] || printf 'stenobird: the transcript goes on; come back to it with --resume %s\n' "$id" >&2
    exit 130
}

main() {
    api=${STENOBIRD_API_URL:-https://stenobird.com}
    api=${api%/}
    attempts=${STENOBIRD_ATTEMPTS:-30}
    url='' id='' output='' format=txt language='' prompt='' translate='' words='' quiet=''
    while [ $# -gt 0 ]; do
        case $1 in
            -o | --output | -f | --format | -l | --language | -p | --prompt | --resume)
                [ $# -ge 2 ] || fail 2 "$1 needs a value; see --help"
                case $1 in
                    -o | --output) output=$2 ;;
                    -f | --format) format=$2 ;;
                    -l | --language) language=$2 ;;
                    -p | --prompt) prompt=$2 ;;
                    --resume) id=$2 ;;
                esac
                shift
                ;;
            --translate) translate=1 ;;
            --words) words=1 ;;
            -q | --quiet) quiet=1 ;;
            -h | --help)
                usage
                exit 0
                ;;
            -*) fail 2 "there is no option $1; see --help" ;;
            *)
                [ -z "$url" ] || fail 2 "one URL at a time; quote it if it has spaces or &"
                url=$1
                ;;
        esac
        shift
    done
    case $format in txt | srt | vtt | json | docx) ;; *) fail 2 "there is no format $format; see --help" ;; esac
    case $attempts in '' | *[!0-9]*) fail 2 "STENOBIRD_ATTEMPTS must be a number" ;; esac
    case $id in *[!A-Za-z0-9_-]*) fail 2 "that is no id of a transcript" ;; esac
    if [ -n "$url" ] && [ -n "$id" ]; then
        fail 2 "give a URL or --resume, not both"
    elif [ -z "$url$id" ]; then
        usage >&2
        exit 2
    fi
    command -v curl >/dev/null 2>&1 || fail 2 "curl is needed; please install it"

    umask 077
    work=
    trap clean_up EXIT
    trap interrupted INT TERM HUP
    work=$(mktemp -d "${TMPDIR:-/tmp}/stenobird.XXXXXX") || fail 2 "no temporary folder can be made"
    : >"$work/curlrc"
    if [ -n "${STENOBIRD_API_KEY:-}" ]; then
        case $STENOBIRD_API_KEY in
            *[!A-Za-z0-9_-]*) fail 4 "STENOBIRD_API_KEY has characters that no key has; check it" ;;
        esac
        printf 'header = "Authorization: Bearer %s"\n' "$STENOBIRD_API_KEY" >"$work/curlrc"
    fi

    if [ -z "$id" ]; then
        create
        note "Transcript $id"
    fi
    follow
    [ ! -s "$work/spoke" ] || echo
    [ ! -s "$work/error" ] || fail 1 "$(error_text "$work/error")"
    if [ -s "$work/done" ] && [ "$(json_field status <"$work/done")" = cancelled ]; then
        fail 1 "the transcript was cancelled"
    fi
    save
    if [ -s "$work/locked" ]; then
        note "$(json_field message <"$work/locked") $(json_field upgrade_url <"$work/locked")"
    fi
}

main "$@"
