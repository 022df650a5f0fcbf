; SPDX-License-Identifier: GPL-3.0-or-later
; Behind the gateway: the domain of the listed recipients.
$TTL 300
@           SOA ns.example.org. hostmaster.example.org. 1 3600 600 86400 60
            NS  ns.example.org.
            MX  10 mx1
            TXT "v=spf1 mx -all"
mx1         A   203.0.113.10
            AAAA 2001:db8:113::10
gateway     A   203.0.113.11

; staff.example.com: every address exists
staff       MX  10 mx1
            TXT "v=spf1 mx -all"

; the inside network
mx1.inside  A   198.51.100.10
mail.inside A   198.51.100.25
            AAAA 2001:db8:100::25
ns.inside   A   198.51.100.53
admin.inside A  198.51.100.1
