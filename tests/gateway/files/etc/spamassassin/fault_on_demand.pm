# SPDX-License-Identifier: GPL-3.0-or-later
#
# For tests: SpamAssassin fails in the way and at the place that a message names,
# for example "X-Fault: slow in get_uri_list". Other messages see nothing of it.

package FaultOnDemand;
use strict;
use warnings;
use re 'taint';
use Mail::SpamAssassin::Plugin;
use Time::HiRes ();
our @ISA = qw(Mail::SpamAssassin::Plugin);

my %fault = (
  # Longer than time_limit, in small steps, so that a signal may end it.
  slow => sub { my $end = time + 6; Time::HiRes::sleep(0.1) while time < $end },
  # Longer than $child_timeout, and no signal ends it.
  deaf => sub { local $SIG{ALRM} = 'IGNORE'; my $end = time + 10; Time::HiRes::sleep(0.1) while time < $end },
  dies => sub { die "out of order\n" },
  # As the kernel does when memory is short.
  killed => sub { kill 'KILL', $$ },
);

sub perhaps {
  my($message, $here) = @_;
  my $wish = $message->get_pristine_header('X-Fault') // '';
  my($what, $where) = $wish =~ /^\s*(\w+) in (\w+)\s*$/ or return;
  $fault{$what}->() if $where eq $here;
}

sub new {
  my($class, $main) = @_;
  my $self = bless $class->SUPER::new($main), $class;
  $self->register_eval_rule('fault_in_a_rule');
  $self;
}

sub fault_in_a_rule { perhaps($_[1]->{msg}, 'rule'); 0 }
sub check_dnsbl { perhaps($_[1]->{permsgstatus}->{msg}, 'check_dnsbl') }
sub check_cleanup { perhaps($_[1]->{permsgstatus}->{msg}, 'check_cleanup') }

# SpamAssassin's own code, which no rule and no callback stands for.
{
  no strict 'refs';
  no warnings 'redefine';
  my $class = 'Mail::SpamAssassin::PerMsgStatus';
  for my $method (qw(get_decoded_stripped_body_text_array get_uri_list get_report)) {
    my $original = \&{"${class}::$method"};
    *{"${class}::$method"} = sub { perhaps($_[0]->{msg}, $method); goto &$original };
  }
  my $parse = \&Mail::SpamAssassin::parse;
  *Mail::SpamAssassin::parse = sub { my $message = $parse->(@_); perhaps($message, 'parse'); $message };
}

1;
