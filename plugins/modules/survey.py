#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: survey
short_description: Says what a host is like, and what those answer that a gateway on it would speak to
version_added: 0.2.0
description:
  - Looks at a host that is to be an antispam gateway, or is one, and asks its neighbours. It only reads, and has no opinion.
  - M(antispam.gateway.preflight) runs it, and judges what it finds.
  - Everybody is asked at once, so that some who do not answer cost no more than one.
options:
  ports:
    description: TCP ports; the processes that listen on each are returned.
    type: list
    elements: int
    default: []
  units:
    description: systemd units; which of them are active is returned.
    type: list
    elements: str
    default: []
  processes:
    description: Names of processes; those that run are returned.
    type: list
    elements: str
    default: []
  marked_files:
    description: Paths of configuration files; those that begin with the header line of this collection are returned.
    type: list
    elements: path
    default: []
  config_files:
    description: Paths of configuration files; those that somebody else wrote are returned, see RV(foreign).
    type: list
    elements: path
    default: []
  certificate:
    description: Path of a certificate in PEM format.
    type: path
  key:
    description: Path of its private key.
    type: path
  hostname:
    description: The name of the gateway, for which the certificate should be, and which it greets with.
    type: str
    required: true
  ca_file:
    description: Path of a file with certificate authorities, besides those of the host.
    type: path
  nameservers:
    description: IP addresses of resolvers to ask.
    type: list
    elements: str
    default: []
  store:
    description: A Redis server to log in to.
    type: dict
    suboptions:
      host:
        description: Name or IP address.
        type: str
        required: true
      port:
        description: TCP port.
        type: int
        required: true
      tls:
        description: Whether to use TLS, with a certificate for O(store.host).
        type: bool
        default: false
      username:
        description: The user. Without it the one that Redis calls C(default).
        type: str
      password:
        description: Its password.
        type: str
  servers:
    description: SMTP servers to speak to.
    type: list
    elements: dict
    default: []
    suboptions:
      host:
        description: Name or IP address.
        type: str
        required: true
      port:
        description: TCP port.
        type: int
        required: true
      converse:
        description: Whether to hold a conversation, too. A name that Postfix looks up MX records for is not itself the server.
        type: bool
        default: true
      level:
        description: The security level of smtp_tls_policy_maps that it is to be spoken to at.
        type: str
        default: may
      certificate_names:
        description: Names of which its certificate needs one. C(.example.com) stands for every name below it. Without any, no certificate is verified.
        type: list
        elements: str
        default: []
extends_documentation_fragment:
  - antispam.gateway.attributes.reads
author:
  - The antispam.gateway maintainers (@antispam)
"""

EXAMPLES = r"""
- name: Look at a host and at the mail server behind it
  antispam.gateway.survey:
    hostname: mx1.example.com
    ports: [25]
    servers:
      - host: mail.inside.example.com
        port: 25
  register: observed
"""

RETURN = r"""
system:
  description: The ID and VERSION_ID of os-release(5).
  returned: success
  type: list
  elements: str
  sample: [debian, "13"]
cpus:
  description: How many CPUs the host may use.
  returned: success
  type: int
memory_mib:
  description: The memory of the host, or of the control group that bounds it, in MiB.
  returned: success
  type: int
packages:
  description: Names of the packages that are installed.
  returned: success
  type: list
  elements: str
listeners:
  description: A dictionary of port to the names of the processes that listen on it. The key C(loopback-53) has those in the way of a resolver.
  returned: success
  type: dict
active:
  description: Which of O(units) are active.
  returned: success
  type: list
  elements: str
running:
  description: Which of O(processes) run.
  returned: success
  type: list
  elements: str
marked:
  description: Which of O(marked_files) carry the header line of this collection.
  returned: success
  type: list
  elements: str
foreign:
  description:
    - What somebody else has set up on this host. A file with the header line of this collection is ours, and what a Debian package wrote is nobody's.
    - C(postfix) is null, or has the C(parameters) of main.cf, the C(services) of master.cf, the C(relay_domains), and the C(recipients), of which there are
      C(recipients_count). C(amavis) and C(spamassassin) are the lines of their configuration. C(replaced) are those of O(config_files) that somebody
      wrote, C(in_force) other files that the services go on reading.
  returned: success
  type: dict
queued_mail:
  description: Whether messages are on hold on account of M(antispam.gateway.queued_mail).
  returned: success
  type: bool
resolvers:
  description: The addresses of /etc/resolv.conf.
  returned: success
  type: list
  elements: str
free:
  description: A dictionary of C(queue) and C(scratch) to a path and the bytes that are free there.
  returned: success
  type: dict
certificate:
  description:
    - A dictionary of C(unreadable), paths with the reason; C(mismatch), why the files are not a certificate and its key;
      C(expired), when it ended; C(other_name), whether it is not for O(hostname).
  returned: success
  type: dict
store:
  description: Why O(store) cannot be used, empty where it can, and where none is named.
  returned: success
  type: str
ca_file:
  description: Why O(ca_file) cannot be used, empty where it can.
  returned: success
  type: str
nameservers:
  description: What each of O(nameservers) has answered, C(unanswered) with the reason or C(rcode).
  returned: success
  type: list
  elements: dict
servers:
  description:
    - What each of O(servers) is like. C(unresolved) and C(unreachable) have a reason; C(own) says whether the address is this host's;
      C(silent) says why it does not speak SMTP, C(refusal) has the lines of a refusal, C(extensions) what it offers,
      C(tls) why it cannot be spoken to at its level.
  returned: success
  type: list
  elements: dict
"""

import concurrent.futures
import functools
import pathlib
import re
import shutil
import socket
import ssl
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.antispam.gateway.plugins.module_utils import _dns, _files, _foreign, _host, _queue, _smtp

# Seconds for a question to a server.
TIMEOUT = 10
# How many are asked at once. A host that does not answer takes most of a minute: its name, its port, and two conversations.
AT_ONCE = 100
PLACES = {
    "queue": ("/var/spool/postfix", "/var/spool", "/"),
    "scratch": ("/var/lib/amavis/tmp", "/var/lib/amavis", "/var/lib", "/"),
}


class Certificate(t.TypedDict):
    """What is wrong with a certificate and its key: {path: reason}, and texts that are empty where nothing is."""

    unreadable: dict[str, str]
    mismatch: str
    expired: str  # when
    other_name: bool


def free() -> dict[str, tuple[str, int]]:
    """Return {what: (path, bytes free)} of where mail is kept and unpacked, or will be."""
    found = {}
    for what, paths in PLACES.items():
        place = next(path for path in paths if pathlib.Path(path).is_dir())
        found[what] = (place, shutil.disk_usage(place).free)
    return found


def certificate(module: AnsibleModule, path: str | None, key: str | None, hostname: str) -> Certificate:
    """Let OpenSSL load the pair as Postfix would, and look at what its clients would."""
    found = Certificate(unreadable={}, mismatch="", expired="", other_name=False)
    for each in filter(None, (path, key)):
        try:
            pathlib.Path(each).read_bytes()
        except OSError as error:
            found["unreadable"][each] = error.strerror or str(error)
    if found["unreadable"] or not (path and key):
        return found
    try:
        # A password callback keeps OpenSSL from asking on the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path, key, password=lambda: b"")
    except (ssl.SSLError, OSError) as error:
        found["mismatch"] = str(error)
        return found
    # The ssl module reads no dates. Where there is no openssl yet, gateway-certificate looks before anything is switched.
    if not module.get_bin_path("openssl"):
        return found
    look = ["openssl", "x509", "-noout", "-in", path]
    rc, out, _err = module.run_command([*look, "-enddate", "-checkend", "0"])
    if rc:
        found["expired"] = re.sub(r".*notAfter=(.*?)\s*\n.*", r"\1", out, flags=re.DOTALL)
    found["other_name"] = "does match" not in module.run_command([*look, "-checkhost", hostname])[1]
    return found


def ca_file(path: str) -> str:
    """Return why certificate authorities cannot be read from a file, '' where they can."""
    try:
        ssl.create_default_context(cafile=path)
    except ssl.SSLError as error:
        return f"holds no certificates in PEM format ({error.reason})"
    except OSError as error:
        return f"cannot be read on the gateway ({error.strerror})"
    return ""


def nameserver(address: str) -> dict[str, str]:
    """Ask a resolver for the root of the DNS."""
    try:
        return {"rcode": _dns.refusal(address)}
    except _dns.Unanswered as error:
        return {"unanswered": str(error)}


def store(given: dict[str, t.Any], authorities: str | None) -> str:
    """Log in to a Redis server; return why that cannot be done, '' where it can. given: the option store; authorities: a file of certificates."""
    login = [given["username"], given["password"]] if given["username"] else [given["password"]] if given["password"] else []
    questions = ([["AUTH", *login]] if login else []) + [["PING"]]
    try:
        with socket.create_connection((given["host"], given["port"]), TIMEOUT) as connection:
            if given["tls"]:
                context = ssl.create_default_context()
                if authorities:
                    context.load_verify_locations(authorities)
                connection = context.wrap_socket(connection, server_hostname=given["host"])
            for question in questions:
                words = [word.encode() for word in question]
                connection.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))
                reply = connection.recv(500).decode("utf-8", "replace")
                if not reply.startswith("+"):
                    return f"does not let this gateway in ({reply.strip().lstrip('-') or 'it hangs up'})"
    except OSError as error:
        return f"does not answer ({error})"
    return ""


def server(given: dict[str, t.Any], hostname: str, authorities: str | None) -> dict[str, t.Any]:
    """Describe a server as RETURN has it. given: an element of the option servers; authorities: a file of certificates."""
    host, port = given["host"], given["port"]
    unresolved, unreachable, addresses = _host.reach(host, port)
    found: dict[str, t.Any] = {"unresolved": unresolved, "unreachable": unreachable, "own": any(map(_host.is_own, addresses))}
    if found["unresolved"] or found["unreachable"] or found["own"] or not given["converse"]:
        return found
    try:
        result = _smtp.converse(host=host, port=port, helo=hostname, tls="never", stop_after="helo", timeout=TIMEOUT)
    except _smtp.SmtpError as error:
        return found | {"silent": str(error)}
    if result["verdict"] != "accepted":
        return found | {"refusal": lines(result)}
    found["extensions"] = result["extensions"]
    if given["level"] in ("encrypt", "verify", "secure"):
        found["tls"] = tls_problem(host, port, given["certificate_names"], hostname, authorities)
    return found


def lines(result: _smtp.Record) -> list[str]:
    """Return the lines of the last reply."""
    return result["reply"]["lines"] if result["reply"] else []


def tls_problem(host: str, port: int, certificate_names: list[str], hostname: str, authorities: str | None) -> str:
    """Return why a server cannot be spoken to over TLS, with a certificate for one of some names if there are any, '' if it can."""
    verified: dict[str, t.Any] = {"validate_certs": bool(certificate_names), "certificate_names": certificate_names, "ca_path": authorities}
    try:
        result = _smtp.converse(host=host, port=port, helo=hostname, tls="require", stop_after="helo", timeout=TIMEOUT, **verified)
    except _smtp.SmtpError as error:
        # Without the advice, which is that of a module's options.
        return re.sub(r"[.] [A-Z].*", "", str(error))
    return f"{host} refuses STARTTLS ({' '.join(lines(result))})" if result["refused_at"] == "starttls" else ""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "ports": {"type": "list", "elements": "int", "default": []},
            "units": {"type": "list", "elements": "str", "default": []},
            "processes": {"type": "list", "elements": "str", "default": []},
            "marked_files": {"type": "list", "elements": "path", "default": []},
            "config_files": {"type": "list", "elements": "path", "default": []},
            "certificate": {"type": "path"},
            "key": {"type": "path", "no_log": False},
            "hostname": {"type": "str", "required": True},
            "ca_file": {"type": "path"},
            "nameservers": {"type": "list", "elements": "str", "default": []},
            "store": {
                "type": "dict",
                "options": {
                    "host": {"type": "str", "required": True},
                    "port": {"type": "int", "required": True},
                    "tls": {"type": "bool", "default": False},
                    "username": {"type": "str"},
                    "password": {"type": "str", "no_log": True},
                },
            },
            "servers": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "host": {"type": "str", "required": True},
                    "port": {"type": "int", "required": True},
                    "converse": {"type": "bool", "default": True},
                    "level": {"type": "str", "default": "may"},
                    "certificate_names": {"type": "list", "elements": "str", "default": []},
                },
            },
        },
        supports_check_mode=True,
    )
    options = module.params
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        unusable = ca_file(options["ca_file"]) if options["ca_file"] else ""
        authorities = None if unusable else options["ca_file"]
        asked = pool.map(nameserver, options["nameservers"])
        met = pool.map(lambda given: server(given, options["hostname"], authorities), options["servers"])
        listeners = {str(port): sorted(_host.listeners(port)) for port in options["ports"]}
        listeners["loopback-53"] = sorted(_host.listeners(53, loopback_only=True))
        active = [unit for unit in options["units"] if module.run_command(["systemctl", "--quiet", "is-active", unit])[0] == 0]
        module.exit_json(
            changed=False,
            system=list(_host.os_release()),
            cpus=_host.cpus(),
            memory_mib=_host.memory_mib(),
            packages=_host.installed(),
            listeners=listeners,
            active=active,
            running=_host.running(options["processes"]),
            marked=[path for path in options["marked_files"] if _files.is_ours(pathlib.Path(path))],
            foreign=_foreign.look(functools.partial(module.run_command, handle_exceptions=False), options["config_files"]),
            queued_mail=_queue.Record().pending,
            resolvers=_host.resolv_conf(),
            free=free(),
            certificate=certificate(module, options["certificate"], options["key"], options["hostname"]),
            ca_file=unusable,
            store=store(options["store"], authorities) if options["store"] else "",
            nameservers=list(asked),
            servers=list(met),
        )


if __name__ == "__main__":
    main()
