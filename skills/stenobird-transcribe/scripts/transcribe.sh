#!/bin/sh
# Transcribes a link with Stenobird: prints the words as they arrive and saves the transcript.
# Needs a POSIX shell, curl, awk, sed and od.

set -u
# Make zsh split words like other shells.
[ -z "${ZSH_VERSION:-}" ] || emulate sh

usage() {
    cat <<'HELP'
Usage: transcribe.sh [options] URL
       transcribe.sh [options] --resume ID
       transcribe.sh [options] --stop ID

Transcribes the audio behind any public link: prints the words as they arrive, and saves the transcript.
Without STENOBIRD_API_KEY you get a free preview of 15 seconds.

  -o, --output FILE    where to save (default: stenobird-<id>.<format> in this folder); - prints the
                       transcript at the end instead of the words as they arrive
  -f, --format FORMAT  txt, srt, vtt, json or docx (default: txt)
  -l, --language CODE  spoken language, such as en (default: detected)
  -p, --prompt TEXT    names and terms that are likely to be spoken
      --translate      translate to English
      --words          add word timestamps to json
      --speakers       say who speaks
      --minutes N      when to stop live audio (default: 60)
      --stop ID        stop live audio, and save its text
      --resume ID      continue with a transcript that was started before
  -q, --quiet          print only the words
  -h, --help           show this text

Environment:
  STENOBIRD_API_KEY    key for whole transcripts
  STENOBIRD_API_URL    the service (default: https://stenobird.com)
  STENOBIRD_ATTEMPTS   attempts in a row without progress before giving up (default: 30)

Exit status: 0 transcript or preview saved, 1 the transcript failed, 2 wrong usage, 3 the service can't be
reached, 4 the service refused the request, 5 the service stayed too busy, 130 interrupted.
HELP
}

fail() { # exit status, message
    printf 'stenobird: %s\n' "$2" >&2
    exit "$1"
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

# Runs a command that a signal to this shell ends at once; otherwise the shell would wait for it.
patiently() {
    "$@" &
    child=$!
    wait "$child"
    set -- "$?"
    child=''
    return "$1"
}

# curl with the key, which stays out of the process list.
call() {
    exec curl -sS --connect-timeout 15 -K "$work/curlrc" -D "$work/head" "$@" 2>"$work/curl"
}

# Prints the value of a header of the last response.
header() {
    LC_ALL=C awk -v name="$1:" '
        /^HTTP\// { value = "" }
        tolower($1) == name { value = $2 }
        END { sub(/\r$/, "", value); print value }' "$work/head" 2>/dev/null
}

http_status() {
    LC_ALL=C awk '/^HTTP\// { status = $2 } END { print status + 0 }' "$work/head" 2>/dev/null
}

error_text() {
    message=$(json_field message <"$1")
    code=$(json_field error <"$1")
    if [ -z "$message" ]; then
        code='' message="$api answered with HTTP status $(http_status), which says no more"
        moved=$(header location)
        [ -z "$moved" ] || message="$api sends us on to $moved; set STENOBIRD_API_URL to where it is now"
    fi
    printf '%s%s' "$message" "${code:+ ($code)}"
}

# Waits as long as the response asks, or a little longer at each attempt; gives up after too many.
wait_before_retry() { # try, how many there may be, file with an answer, exit status and reason for giving up
    [ "$1" -lt "$2" ] || fail "$4" "$5"
    pause=$(json_field retry_after_seconds <"$3" 2>/dev/null | sed 's/[^0-9].*//')
    [ -n "$pause" ] || pause=$(header retry-after)
    case $pause in
        '' | *[!0-9]*)
            pause=$1
            [ "$pause" -le 10 ] || pause=10
            ;;
        ????*) pause=120 ;;
        0*) pause=1 ;;
    esac
    [ "$pause" -le 120 ] || pause=120
    patiently sleep "$pause"
}

request_body() {
    printf '{"audio_url":%s' "$(printf '%s' "$url" | json_string)"
    [ -z "$language" ] || printf ',"language":%s' "$(printf '%s' "$language" | json_string)"
    [ -z "$prompt" ] || printf ',"prompt":%s' "$(printf '%s' "$prompt" | json_string)"
    [ -z "$translate" ] || printf ',"task":"translate"'
    [ -z "$words" ] || printf ',"word_timestamps":true'
    [ -z "$speakers" ] || printf ',"speakers":true'
    [ -z "$minutes" ] || printf ',"max_minutes":%s' "$minutes"
    printf '}'
}

create() {
    request_body >"$work/request"
    # A request repeated after a broken connection must not create a second transcript.
    once=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
    try=0
    while :; do
        try=$((try + 1))
        : >"$work/head"
        : >"$work/answer"
        patiently call -X POST --max-time 60 -o "$work/answer" -H 'Content-Type: application/json' \
            -H "Idempotency-Key: $once" --data-binary "@$work/request" "$api/v1/transcripts"
        broken=$?
        answered=$(http_status)
        # Ignore a response that broke off, whatever its status.
        [ "$broken" = 0 ] || answered=0
        case $answered in
            2??)
                id=$(json_field id <"$work/answer")
                [ -n "$id" ] || fail 3 "$api does not look like a Stenobird service."
                return
                ;;
            409 | 429)
                reason=$(error_text "$work/answer")
                case $answered$(json_field error <"$work/answer") in
                    429* | 409idempotency_in_progress) ;;
                    *) fail 4 "$reason" ;;
                esac
                note "Busy, trying again: $reason"
                wait_before_retry "$try" "$attempts" "$work/answer" 5 "$reason"
                ;;
            0 | 5??)
                reason=$(sed -n '1s/^curl: //p' "$work/curl")
                [ "$answered" = 0 ] || reason=$(error_text "$work/answer")
                # No transcript is running yet, so don't wait long.
                limit=$attempts
                [ "$limit" -le 6 ] || limit=6
                [ "$try" -ge "$limit" ] || note "Trying again: $reason"
                wait_before_retry "$try" "$limit" "$work/answer" 3 "$api can't be reached: $reason"
                ;;
            *) fail 4 "$(error_text "$work/answer")" ;;
        esac
    done
}

# Stops live audio. A request that is repeated changes nothing.
stop() {
    try=0
    while :; do
        try=$((try + 1))
        : >"$work/head"
        : >"$work/answer"
        patiently call -X POST --max-time 60 -o "$work/answer" "$api/v1/transcripts/$id/stop"
        case $(http_status) in
            2??) return ;;
            0 | 429 | 5??) ;;
            *) fail 4 "$(error_text "$work/answer")" ;;
        esac
        wait_before_retry "$try" "$attempts" "$work/answer" 3 "$api can't be reached; the transcript goes on"
    done
}

# Reads one event stream from standard input. An event counts, and its id is stored, once it is complete.
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
    # A proxy may answer a reconnect from the start of the stream.
    case $event_id$last_id in
        *[!0-9]*) ;;
        *) [ -z "$event_id" ] || [ "$event_id" -gt "${last_id:-0}" ] || return ;;
    esac
    last_id=$event_id
    case $event in
        status)
            text=$(printf '%s' "$data" | json_field message)
            [ -z "$text" ] || [ -s "$work/spoke" ] || note "$text"
            if [ ! -s "$work/live" ] && [ "$(printf '%s' "$data" | json_field live)" = true ]; then
                echo 1 >"$work/live"
                note "The audio is live. To end the transcript early and keep its text, use --stop $id"
            fi
            ;;
        transcript)
            # The dot keeps trailing line feeds, which $( ) would drop.
            text=$(printf '%s' "$data" | json_field text && printf .)
            # The reader may be gone, as after "| head".
            [ "$output" = - ] || [ -s "$work/unread" ] || printf '%s' "${text%.}" 2>/dev/null ||
                echo 1 >"$work/unread"
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

# Ends the current line, so that messages and the shell's prompt start on a new one.
end_line() {
    if [ -s "$work/spoke" ] && [ "$output" != - ] && [ ! -s "$work/unread" ]; then
        echo 2>/dev/null || echo 1 >"$work/unread"
    fi
}

follow() {
    tries=0
    seen=0
    : >"$work/last_id"
    mkfifo "$work/events" || fail 2 "no pipe can be made in ${TMPDIR:-/tmp}"
    while :; do
        : >"$work/head"
        : >"$work/refusal"
        last_id=$(cat "$work/last_id")
        # A stream sends a comment every 15 seconds; after a minute of silence it is dead.
        call -N --speed-limit 1 --speed-time 60 -H 'Accept: text/event-stream' \
            ${last_id:+-H "Last-Event-ID: $last_id"} "$api/v1/transcripts/$id/events" >"$work/events" &
        source=$!
        read_events <"$work/events" &
        child=$!
        wait "$child"
        child=''
        wait "$source"
        source=''
        [ ! -s "$work/done" ] || return 0
        answered=$(http_status)
        case $answered in
            204) return 0 ;;
            0 | 200 | 429 | 5??) ;;
            *)
                end_line
                fail 4 "$(error_text "$work/refusal")"
                ;;
        esac
        last_id=$(cat "$work/last_id")
        if [ "${last_id:-0}" != "$seen" ]; then
            tries=0
            seen=$last_id
        fi
        tries=$((tries + 1))
        [ "$tries" -le 2 ] || note "The connection broke; trying again."
        wait_before_retry "$tries" "$attempts" "$work/refusal" 3 \
            "$api can't be reached. The transcript goes on; come back to it with --resume $id"
    done
}

# Checks that the output can be saved before anything is billed.
check_output() {
    case $output in
        - | '') ;;
        */) fail 2 "$output is a folder; name a file with -o" ;;
        -*) output=./$output ;;
    esac
    [ "$output" != - ] || return 0
    if [ -d "$output" ]; then
        fail 2 "$output is a folder; name a file with -o"
    elif [ -e "$output" ]; then
        [ -w "$output" ] || fail 2 "$output can't be written; name another file with -o"
    else
        case $output in
            */*) folder=${output%/*}/ ;;
            *) folder=./ ;;
        esac
        [ -d "$folder" ] || fail 2 "there is no folder $folder; make it, or name another file with -o"
        [ -w "$folder" ] || fail 2 "nothing can be written to $folder; name another file with -o"
    fi
}

save() {
    [ -n "$output" ] || output=stenobird-$id.$format
    try=0
    while :; do
        try=$((try + 1))
        : >"$work/head"
        : >"$work/result"
        patiently call --max-time 300 -o "$work/result" "$api/v1/transcripts/$id/result?format=$format"
        broken=$?
        answered=$(http_status)
        [ "$broken" = 0 ] || answered=0
        case $answered in
            200) break ;;
            0 | 409 | 429 | 5??) ;;
            *) fail 1 "$(error_text "$work/result")" ;;
        esac
        wait_before_retry "$try" "$attempts" "$work/result" 3 \
            "The transcript can't be fetched now; come back to it with --resume $id"
    done
    if [ "$output" = - ]; then
        cat "$work/result" 2>/dev/null || true
        return
    fi
    put_in_place 2>/dev/null || fail 2 "$output can't be written. Name another file with -o and --resume $id"
    note "Saved $output"
}

# Writes the file completely or not at all. Links, pipes and other special files stay what they are.
put_in_place() (
    umask "$mask"
    if [ -L "$output" ] || { [ -e "$output" ] && [ ! -f "$output" ]; }; then
        cat "$work/result" >"$output"
        return
    fi
    part=$output.$$.part
    if cat "$work/result" >"$part" && mv -f "$part" "$output"; then
        return 0
    fi
    rm -f "$part"
    return 1
)

clean_up() {
    for process in $child $source; do
        kill "$process" 2>/dev/null
    done
    [ -z "$work" ] || rm -rf "$work"
}

interrupted() {
    printf '\n' >&2
    [ -z "$id" ] || printf 'stenobird: the transcript goes on; come back to it with --resume %s\n' "$id" >&2
    exit 130
}

main() {
    api=${STENOBIRD_API_URL:-https://stenobird.com}
    api=${api%/}
    attempts=${STENOBIRD_ATTEMPTS:-30}
    url='' id='' output='' format=txt language='' prompt='' translate='' words='' speakers='' quiet=''
    minutes='' stopping=''
    work='' child='' source=''
    while [ $# -gt 0 ]; do
        case $1 in
            -o | --output | -f | --format | -l | --language | -p | --prompt | --minutes | --resume | --stop)
                [ $# -ge 2 ] || fail 2 "$1 needs a value; see --help"
                case $1 in
                    -o | --output) output=$2 ;;
                    -f | --format) format=$2 ;;
                    -l | --language) language=$2 ;;
                    -p | --prompt) prompt=$2 ;;
                    --minutes) minutes=$2 ;;
                    --resume) id=$2 ;;
                    --stop) id=$2 stopping=1 ;;
                esac
                shift
                ;;
            --translate) translate=1 ;;
            --words) words=1 ;;
            --speakers) speakers=1 ;;
            -q | --quiet) quiet=1 ;;
            -h | --help)
                usage
                exit 0
                ;;
            -?*) fail 2 "there is no option $1; see --help" ;;
            *)
                [ -z "$url" ] || fail 2 "one URL at a time; quote it if it has spaces or &"
                url=$1
                ;;
        esac
        shift
    done
    case $format in txt | srt | vtt | json | docx) ;; *) fail 2 "there is no format $format; see --help" ;; esac
    case $attempts in '' | *[!0-9]*) fail 2 "STENOBIRD_ATTEMPTS must be a number" ;; esac
    case $minutes in *[!0-9]* | 0* | ??????*) fail 2 "--minutes must be a whole number, 1 or more" ;; esac
    case $id in *[!A-Za-z0-9_-]*) fail 2 "that is no id of a transcript" ;; esac
    if [ -n "$url" ] && [ -n "$id" ]; then
        fail 2 "give a URL, --resume or --stop, not two of them"
    elif [ -z "$url$id" ]; then
        usage >&2
        exit 2
    fi
    command -v curl >/dev/null 2>&1 || fail 2 "curl is needed; please install it"
    check_output

    mask=$(umask)
    umask 077
    # A reader that goes away must not stop the script from saving the transcript.
    trap '' PIPE
    trap clean_up EXIT
    trap interrupted INT TERM HUP
    work=$(mktemp -d "${TMPDIR:-/tmp}/stenobird.XXXXXX") || fail 2 "no temporary folder can be made"
    : >"$work/curlrc"
    if [ -n "${STENOBIRD_API_KEY:-}" ]; then
        case $STENOBIRD_API_KEY in
            *[!A-Za-z0-9_-]*) fail 4 "STENOBIRD_API_KEY has characters that no key has; check it" ;;
        esac
        # Not with printf: in some shells it is an external program, whose arguments others can see.
        cat >"$work/curlrc" <<CURLRC
header = "Authorization: Bearer $STENOBIRD_API_KEY"
CURLRC
    fi

    if [ -z "$id" ]; then
        create
        note "Transcript $id"
    elif [ -n "$stopping" ]; then
        stop
    fi
    follow
    end_line
    [ ! -s "$work/error" ] || fail 1 "$(error_text "$work/error")"
    if [ -s "$work/done" ] && [ "$(json_field status <"$work/done")" = cancelled ]; then
        fail 1 "the transcript was cancelled"
    fi
    [ -s "$work/spoke" ] || note "Nobody speaks in it."
    save
    if [ -s "$work/locked" ]; then
        note "$(json_field message <"$work/locked") $(json_field upgrade_url <"$work/locked")"
    fi
}

main "$@"
