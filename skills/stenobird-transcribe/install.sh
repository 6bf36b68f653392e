#!/bin/sh
# Installs the skill stenobird-transcribe for every coding agent on this machine:
#
#   curl -fsSL https://stenobird.com/skills/stenobird-transcribe/install.sh | sh
#   curl -fsSL https://stenobird.com/skills/stenobird-transcribe/install.sh | sh -s -- --uninstall
#
# All code is in functions that the last line calls, so a download that is cut off does nothing.

set -u
# Make zsh split words like other shells.
[ -z "${ZSH_VERSION:-}" ] || emulate sh

source_url="https://stenobird.com/skills/stenobird-transcribe"
skill=stenobird-transcribe

usage() {
    cat <<HELP
Usage: install.sh [--uninstall] [--to FOLDER]

Installs the skill $skill into the skills folder of each agent found in your home folder:
Codex, Claude Code, Pi, Hermes, OpenClaw, and the common ~/.agents/skills. If there is none of them, it
uses ~/.agents/skills. Where ~/.agents exists, the other folders get a link to the skill there, because
some agents read both. Running it again updates the skill.

  --uninstall   remove the skill everywhere
  --to FOLDER   use only this skills folder
HELP
}

say() {
    printf '%s\n' "$*"
}

fail() {
    printf 'stenobird: %s\n' "$*" >&2
    exit 1
}

# Prints the skills folder of every agent on this machine, one per line.
skill_folders() {
    if [ -n "$only" ]; then
        say "$only"
        return
    fi
    found=''
    for agent in "$HOME/.agents" "${CLAUDE_CONFIG_DIR:-$HOME/.claude}" "${CODEX_HOME:-$HOME/.codex}" \
        "${PI_CODING_AGENT_DIR:-$HOME/.pi/agent}" "${HERMES_HOME:-$HOME/.hermes}" \
        "${OPENCLAW_STATE_DIR:-$HOME/.openclaw}"; do
        if [ -d "$agent" ]; then
            say "$agent/skills"
            found=1
        fi
    done
    [ -n "$found" ] || say "$HOME/.agents/skills"
}

sha256_of() {
    if command -v sha256sum >/dev/null 2>&1; then
        sha256sum <"$1" | cut -d ' ' -f 1
    elif command -v shasum >/dev/null 2>&1; then
        shasum -a 256 <"$1" | cut -d ' ' -f 1
    elif command -v openssl >/dev/null 2>&1; then
        openssl dgst -sha256 -r <"$1" | cut -d ' ' -f 1
    else
        fail "sha256sum, shasum or openssl is needed; please install one. Nothing was installed."
    fi
}

download() { # name, where to
    curl -fsSL --connect-timeout 15 --max-time 120 --retry 2 "$source_url/$1" -o "$2" ||
        fail "$source_url/$1 could not be downloaded; nothing was installed. Try again later."
}

# Downloads the files in SHA256SUMS to $work/skill, and checks each one.
fetch_skill() {
    download SHA256SUMS "$work/SHA256SUMS"
    [ -s "$work/SHA256SUMS" ] || fail "the list of files is empty; nothing was installed."
    while read -r expected name; do
        case $name in
            '' | /* | *..* | *[!A-Za-z0-9._/-]*) fail "the list of files names \"$name\"; nothing was installed." ;;
        esac
        mkdir -p "$work/skill/$(dirname "$name")" || fail "no room in ${TMPDIR:-/tmp}; nothing was installed."
        download "$name" "$work/skill/$name"
        actual=$(sha256_of "$work/skill/$name") || exit 1
        [ "$actual" = "$expected" ] ||
            fail "$name does not have the SHA-256 that it should have; nothing was installed. Try again later."
        case $name in *.sh) chmod 755 "$work/skill/$name" ;; *) chmod 644 "$work/skill/$name" ;; esac
    done <"$work/SHA256SUMS"
    is_ours "$work/skill" || fail "the files are not the skill; nothing was installed."
    find "$work/skill" -type d -exec chmod 755 {} +
}

is_ours() {
    [ -f "$1/SKILL.md" ] && grep -q "^name: $skill\$" "$1/SKILL.md"
}

# Whether the skill in a folder has exactly the files of $work/skill.
is_current() {
    while read -r expected name; do
        [ -f "$1/$name" ] && [ "$(sha256_of "$1/$name")" = "$expected" ] || return 1
    done <"$work/SHA256SUMS"
}

# Keeps other installers out of a folder until unlock; fails if the folder is not writable.
lock() {
    patience=60 misses=0
    until mkdir "$1/.$skill.lock" 2>/dev/null; do
        if [ ! -d "$1/.$skill.lock" ]; then
            # Another installer may have unlocked just now, but not repeatedly.
            misses=$((misses + 1))
            [ "$misses" -lt 3 ] || return 1
            continue
        fi
        owner=$(cat "$1/.$skill.lock/owner" 2>/dev/null)
        patience=$((patience - 1))
        if [ "$patience" -le 0 ] || { [ -n "$owner" ] && ! kill -0 "$owner" 2>/dev/null; }; then
            rm -rf "$1/.$skill.lock" || return 1
        else
            sleep 1
        fi
    done
    locked=$1/.$skill.lock
    echo "$$" >"$locked/owner"
}

unlock() {
    [ -z "$locked" ] || rm -rf "$locked"
    locked=''
}

# Removes leftovers of killed runs; their names contain the process id of the run.
sweep() {
    for leftover in "$1/.$skill".*; do
        number=${leftover#"$1/.$skill."}
        number=${number%%.*}
        case $number in '' | *[!0-9]*) continue ;; esac
        kill -0 "$number" 2>/dev/null || rm -rf "$leftover"
    done
}

# Whether there is nothing at $target but an older copy of the skill.
can_replace() {
    if [ -e "$target" ] && ! is_ours "$target" && ! rmdir "$target" 2>/dev/null; then
        printf 'stenobird: %s is something else, so it was left as it is\n' "$target" >&2
        return 1
    fi
}

# Installs the skill into a skills folder: written next to its place, then renamed.
install_into() {
    target=$1/$skill
    if [ -L "$target" ]; then
        say "left as it is: $target (a link)"
        return 0
    fi
    can_replace || return
    if [ -d "$target" ] && is_current "$target"; then
        say "up to date: $target"
        return 0
    fi
    staged=$(mktemp -d "$1/.$skill.$$.XXXXXX") || return 1
    if ! { cp -R "$work/skill/." "$staged/" && chmod 755 "$staged"; }; then
        discard_staged
        return 1
    fi
    done_word=installed
    [ ! -d "$target" ] || done_word=updated
    put_in_place && say "$done_word: $target"
}

# Moves $staged to $target; what was there stays if that fails.
put_in_place() {
    if [ -d "$target" ]; then
        old=$staged.old
        mv "$target" "$old" || { discard_staged; return 1; }
    fi
    if ! mv "$staged" "$target"; then
        [ -z "$old" ] || mv "$old" "$target"
        old=''
        discard_staged
        return 1
    fi
    staged=''
    [ -z "$old" ] || rm -rf "$old"
    old=''
}

real_path() {
    (cd "$1" 2>/dev/null && pwd -P)
}

# Whether a path is a link to the skill in the common folder, also after that was removed.
is_our_link() {
    [ -L "$1" ] && [ "$(readlink "$1")" = "$common/$skill" ]
}

# Links the skill of the common folder into the folder of an agent, so that agents that read both find it once.
link_into() {
    if [ "$(real_path "$1")" = "$(real_path "$common")" ]; then
        install_into "$1"
        return
    fi
    target=$1/$skill
    if is_our_link "$target"; then
        say "up to date: $target"
        return 0
    fi
    if [ -L "$target" ]; then
        say "left as it is: $target (a link)"
        return 0
    fi
    can_replace || return
    is_ours "$common/$skill" || return 1
    staged=$1/.$skill.$$.link
    if ! ln -s "$common/$skill" "$staged" 2>/dev/null; then
        staged=''
        [ ! -d "$target" ] || uninstall_from "$1" || return 1
        say "not linked: $target (no links are possible here; the skill is in $common)"
        return 0
    fi
    put_in_place && say "linked: $target"
}

discard_staged() {
    [ -z "$staged" ] || rm -rf "$staged"
    staged=''
}

uninstall_from() {
    target=$1/$skill
    if is_our_link "$target"; then
        rm "$target" && say "removed: $target"
    elif [ -L "$target" ]; then
        say "left as it is: $target (a link)"
    elif [ ! -e "$target" ]; then
        say "not there: $target"
    elif is_ours "$target"; then
        # Rename first, so that nothing is left half removed.
        away=$1/.$skill.$$.away
        mv "$target" "$away" && rm -rf "$away" && say "removed: $target"
    else
        say "left as it is: $target (something else)"
    fi
}

# Runs a function on a skills folder while holding its lock.
carefully() { # what, folder
    lock "$2" || return 1
    sweep "$2"
    "$1" "$2"
    set -- "$?"
    unlock
    return "$1"
}

clean_up() {
    # Restore the old version if the new one could not be installed.
    if [ -n "$old" ] && [ -d "$old" ]; then
        if [ -e "$target" ]; then rm -rf "$old"; else mv "$old" "$target"; fi
    fi
    discard_staged
    unlock
    [ -z "$work" ] || rm -rf "$work"
}

main() {
    work='' staged='' old='' locked='' target='' only='' common='' uninstall=''
    while [ $# -gt 0 ]; do
        case $1 in
            --uninstall) uninstall=1 ;;
            --to)
                [ -n "${2:-}" ] || fail "--to needs a folder"
                case $2 in
                    /*) only=$2 ;;
                    *) only=$PWD/$2 ;;
                esac
                shift
                ;;
            -h | --help)
                usage
                exit 0
                ;;
            *) fail "there is no option $1; see --help" ;;
        esac
        shift
    done
    [ -n "${HOME:-}" ] || fail "HOME is not set"
    trap clean_up EXIT
    trap 'exit 130' INT TERM HUP
    folders=$(skill_folders)
    common=$HOME/.agents/skills
    failed=0
    if [ -n "$uninstall" ]; then
        while IFS= read -r folder; do
            if [ ! -d "$folder" ]; then
                say "not there: $folder/$skill"
                continue
            fi
            carefully uninstall_from "$folder" || {
                printf 'stenobird: %s could not be changed\n' "$folder" >&2
                failed=1
            }
        done <<FOLDERS
$folders
FOLDERS
        exit "$failed"
    fi
    command -v curl >/dev/null 2>&1 || fail "curl is needed; please install it"
    work=$(mktemp -d "${TMPDIR:-/tmp}/stenobird.XXXXXX") || fail "no temporary folder can be made"
    fetch_skill
    while IFS= read -r folder; do
        how=install_into
        # The common folder comes first, so that there is something to link to.
        [ -n "$only" ] || [ "$folder" = "$common" ] || [ ! -d "$HOME/.agents" ] || how=link_into
        { mkdir -p "$folder" && carefully "$how" "$folder"; } || {
            printf 'stenobird: %s could not be written\n' "$folder" >&2
            failed=1
        }
    done <<FOLDERS
$folders
FOLDERS
    [ "$failed" = 0 ] || exit 1
    # shellcheck disable=SC2016  # the dollar is part of the skill's name in Codex
    say 'Ask your agent, for instance: Use $stenobird-transcribe with https://example.com/episode'
    if [ -z "${STENOBIRD_API_KEY:-}" ]; then
        say 'Without STENOBIRD_API_KEY it gives free previews of 15 seconds.'
    fi
}

main "$@"
