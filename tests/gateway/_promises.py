# SPDX-License-Identifier: GPL-3.0-or-later
"""The promises of the collection: one sentence or two for each code that the marker ``holds`` of a test can name.

tools/promises.py makes docs/promises.md of them and of the tests.
S: parts of a gateway that refuses before it queues. D: defects that such a configuration often has. T: traps in the programs that it uses.
"""

KINDS = {
    "S": ("What a gateway does", "The parts of a gateway that refuses mail before it queues it."),
    "D": ("Defects that it does not have", "Mistakes that are common in configurations of this kind, and what the gateway does instead."),
    "T": ("Traps that it avoids", "Behaviour of Postfix, amavis, SpamAssassin, ClamAV and Debian that a configuration has to take into account."),
}

PROMISES = {
    "S1": "Postfix passes every message to amavis before it queues it. A 250 means that the message is queued.",
    "S2": "After the scan the message returns to Postfix on a listener that only the gateway itself can reach. Nothing is checked a second time there, and the"
    " log names the real client.",
    "S3": "The gateway relays mail for its own domains and keeps no mailboxes. It refuses relaying, unknown recipients, malformed envelopes and messages above"
    " the size limit.",
    "S4": "amavis adds a score to the headers of delivered mail and marks the subject of probable spam. It refuses spam, viruses and banned attachments.",
    "S5": "A sender score adds points to the spam score of one envelope sender, or takes points away. It counts for all recipients alike.",
    "S6": "clamd scans mail for viruses and loads new signatures while it runs. Without usable signatures no virus passes.",
    "S7": "The gateway knows who receives mail. It refuses mail to any other address at RCPT.",
    "S8": "The gateway refuses bad mail while the sending server is connected, and that server tells the sender. When a scan fails, the client is asked to try"
    " again later, and the message is not delivered.",
    "S9": "Mail of trusted hosts and of accounts passes the same scanners on its way to the world.",
    "S10": "postscreen refuses clients that talk before they are greeted and clients on DNS lists. Known clients and trusted hosts do not wait. Clients that"
    " send too much or guess recipients are slowed down.",
    "S11": "The gateway keeps a record of each message, and `gateway-trace` tells what happened to it. While the recorder is stopped, mail goes on and is"
    " recorded later. Nothing is counted twice.",
    "D1": "Postfix starts with the configuration that the collection writes, and finds no fault in it.",
    "D2": "A trusted network with host bits set is refused before anything is changed. A client outside the trusted networks cannot relay.",
    "D3": "A client has to say HELO or EHLO; either is enough. A parameter that Postfix does not know is refused, and the old configuration stays.",
    "D4": "A client without a reverse name is asked to try again later (450). A client whose reverse name does not lead back to it is served.",
    "D5": "The time limits are in order: a scan ends before amavis ends its worker, that is before Postfix stops waiting, and that is before the client does.",
    "D6": "While clamd is down, does not answer or gives a wrong answer, no virus is delivered.",
    "D7": "All recipients of one message get the same verdict. A message is never accepted for some of them and dropped for the others.",
    "D8": "The listener behind the filter checks nothing again, accepts the name of the real client from amavis, and never ends a message at a bare newline.",
    "D9": "One client gets at most half of the amavis workers. When all workers are busy, clients wait and are then served.",
    "D10": "Mail for postmaster and abuse of every domain, and mail of the gateway's own services, reaches `gateway_postmaster`.",
    "D11": "amavis writes one line to the log for each message.",
    "D12": "Attachments with banned names or types are refused, also inside archives. Ordinary attachments arrive.",
    "D13": "Postfix and amavis use the same list of domains. A subdomain is a domain of its own.",
    "D14": "Recipients follow their source without a reload. A damaged source changes nothing, and neither does one that would remove too many recipients.",
    "D15": "The lookup tables of Postfix are not Berkeley DB files.",
    "D16": "TLS is offered to clients and used towards other servers. Mail over TLS is scanned, and only root can read the private key. A client that sends"
    " before its turn is refused.",
    "D17": "Mail for the gateway's own domains is accepted while the DNS cannot find them.",
    "D18": "A bare newline or a bare carriage return never splits a message (SMTP smuggling).",
    "D19": "With too little disk space, clients are asked to come back. An archive that could not be unpacked for want of space is not delivered.",
    "D20": "A client that talks too early or is on a DNS list is refused before an SMTP server process is started for it.",
    "D21": "Every lookup table that the configuration names exists, and the playbook repairs one that was edited by hand.",
    "T1": "With more clients than amavis workers, no client waits longer for a worker than Postfix waits for amavis. Limits that "
    "would break this are refused, with the arithmetic.",
    "T2": "A client that sends slowly holds no amavis worker. With too little room for the queue, a client is asked to come back before it sends its message.",
    "T3": "Spam and viruses are refused with a 5xx, however many recipients a message has. The gateway sends no bounce instead.",
    "T4": "Without clamd the client gets its 451 within 30 seconds. There is no second, slower virus scanner.",
    "T5": "amavis uses the full name of the gateway from its first start. A host name without a domain is refused.",
    "T6": "No message is lost or delivered twice while amavis is reloaded, while SpamAssassin's rules are updated, or after a boot.",
    "T7": "Any id that a client saw leads to the verdict and to the next hop in the journal.",
    "T8": "With `gateway_hide_internal_hops`, a message does not tell the world which internal hosts it passed.",
    "T9": "The gateway offers only SMTP extensions that work on the whole path.",
    "T10": "A virus at the end of a large message is found. SpamAssassin sees every text that a reader is shown, wherever it stands in a message and"
    " however large the message is. A message with more text than it can judge in time is not delivered, and the client gets a 450.",
    "T11": "Clean mail keeps its subject and its text. MIME that readers understand differently is refused.",
    "T12": "amavis keeps no Berkeley DB.",
    "T13": "A site that names no source of virus signatures is refused before anything is changed.",
    "T14": "A client that passes postscreen reaches the scanners. postscreen's tests that ask every new client to come back are off "
    "unless the site wants them.",
    "T15": "An answer of a DNS list counts only if it is one by which the list names a bad client. The gateway asks its own resolver, which validates and which"
    " no other host can ask. A list that does not work is left out.",
    "T16": "A subdomain of a relay domain is not a relay domain.",
    "T17": "A long line that begins with `From` panics no process of Postfix on Debian 13. Debian 12, where it does, is refused unless the site accepts this.",
    "T18": "The services run, are there again after a boot, and no service of Postfix is chrooted.",
    "T19": "spamd does not run, and the rules of SpamAssassin are updated.",
    "T20": "When SpamAssassin does not finish a message, the client is asked to come back (450). The message is not delivered, whether it is spam or not.",
    "T21": "An archive that no scanner can open is delivered with a mark or refused, as the site says. An archive beyond the unpacking limits is refused.",
    "T22": "Scores and thresholds are the same for all recipients of a message. No part of a message becomes a bounce.",
    "T23": "Relaying by a stranger is refused for good (554), in every spelling of the address. Trusted hosts and accounts may relay.",
    "T24": "Port 25 answers only when the gateway is configured. A port that another program holds is an error before anything is changed.",
    "T25": "The directories that failed scans leave behind are limited in number. The directory of a running scan is not removed.",
    "T26": "amavis sends no notices about spam and viruses, and keeps no copies of them.",
    "T29": "Programs are found inside archives of every kind for which an unpacker is installed.",
    "T30": "SpamAssassin sees the real client, and knows which clients are trusted.",
    "T31": "The gateway writes results of DKIM, SPF and DMARC under its own name only, removes forged ones, and leaves those of other hosts alone. "
    "SPF and DMARC are checked with"
    " the real client.",
    "T32": "Outgoing mail can have an RSA and an Ed25519 signature. While the second signer is down, mail goes out with the first.",
    "T33": "The key of a DNS list is in no SMTP reply and in no output of the playbook.",
    "T34": "With a scanner stopped, clients get a 4xx. A trusted host is told of an unknown recipient. What accounts send passes the scanners.",
    "T35": "Names of attachments are judged as Windows takes them. What Outlook and Exchange refuse is refused. Documents, signed and encrypted messages,"
    " calendars and business cards arrive.",
    "T36": "Documents of Microsoft Office with macros that start by themselves are refused, and documents with other macros arrive, unless the site says"
    " otherwise.",
    "T37": "A refusal says in plain words what was wrong, with the name of the virus or of the attachment, the id of the message, and where to turn. It says"
    " nothing about the inside.",
    "T38": "With `gateway_protect_own_domains`, mail from outside that claims a domain of the site without proof is refused.",
    "T39": "An account writes only its own addresses into From and Sender, unless the site lets it write any.",
    "T40": "One client can make only so many guesses at a password in a minute, and each guess makes it wait longer. Others log in meanwhile.",
    "T41": "Unofficial signatures reach clamd only after ClamAV has loaded them and has found nothing in ordinary mail with them. What is bad or away changes"
    " nothing and is named.",
    "T42": "However many addresses guess at the password of one account, only so many guesses in an hour are looked at, and the journal names the account. Its"
    " owner goes on from where the account has logged in before, and other accounts are not disturbed.",
    "T43": "What waits in the queue is found by sender, recipient, reason and age, and just that is held, released, tried again or deleted.",
    "T44": "An account that was stolen is stopped at once, on connections that are open too; what it has in the queue is held and counted.",
}
