#!/bin/sh
# Puts the units in place: `sudo make install-systemd`, again after every update. With DESTDIR (a package's
# folder, a test's) it only copies: no user is made and systemd is not told.
set -eu
checkout=$(cd "$(dirname "$0")/.." && pwd)
prefix=${PREFIX:-$checkout}
destdir=${DESTDIR:-}
units=$destdir${UNITDIR:-/etc/systemd/system}
config=$destdir/etc/marketd/config.toml

fail() {
    echo "install-systemd: $1" >&2
    exit 1
}

# The path goes into the units, where these characters would mean something else.
case $prefix in *[!A-Za-z0-9/._+-]*) fail "$prefix: choose a path of letters, digits and / . _ + -" ;; esac

if [ -z "$destdir" ]; then
    [ "$(id -u)" = 0 ] || fail "needs root: sudo make install-systemd"
    [ -x "$prefix/.venv/bin/marketd" ] || fail "no $prefix/.venv/bin/marketd: run make install first"
    python=$(readlink -f "$prefix/.venv/bin/python")
    for path in "$prefix" "$python"; do
        case $path in /home/* | /root/* | /tmp/* | /var/tmp/* | /run/*)
            fail "$path: a service sees neither homes nor temporary folders; put the checkout (and its Python) in /opt/marketd, say" ;;
        esac
    done
fi

umask 022
mkdir -p "$units" "$destdir/usr/lib/sysusers.d" "$destdir/etc/marketd"
for unit in marketd.service marketd-ray.service; do
    sed "s|/opt/marketd|$prefix|g" "$checkout/systemd/$unit" >"$units/$unit"
done
cp "$checkout/systemd/sysusers.d/marketd.conf" "$destdir/usr/lib/sysusers.d/marketd.conf"
if [ -e "$config" ]; then
    kept="kept as it was"
else
    sed 's|^data_dir = "data" .*|data_dir = "/var/lib/marketd"      # the record; the unit may write nowhere else|' \
        "$checkout/config.toml" >"$config"
    kept="new: choose your pairs in it"
fi

if [ -z "$destdir" ]; then
    # The service may not write into the checkout: its own bytecode is made now.
    (cd "$prefix" && .venv/bin/python -m compileall -q market feeds analytics storage actors daemon)
    systemd-sysusers marketd.conf
    systemctl daemon-reload
fi

cat <<END
installed marketd.service and marketd-ray.service, which run $prefix/.venv/bin/marketd
configuration: /etc/marketd/config.toml ($kept)
next:
  $prefix/.venv/bin/marketd check --config /etc/marketd/config.toml
  systemctl enable --now marketd
  systemctl status marketd; journalctl -u marketd -u marketd-ray
END
