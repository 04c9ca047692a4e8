#!/bin/sh
# Finds or installs a Chromium for the browser tests: the system's, else Debian's package when root,
# else the one that Playwright downloads. $1 is the Python that has Playwright.
set -eu
python=$1
for name in chromium chromium-browser google-chrome; do
    command -v "$name" >/dev/null 2>&1 && exit 0
done
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    apt-get update -qq
    apt-get install -y -qq chromium fonts-dejavu-core
else
    "$python" -m playwright install chromium
fi
