import { execFile } from 'node:child_process';
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Typed } from '../../protocol/attach.ts';
import { asKhloneError, KhloneError } from '../../protocol/error.ts';
import { magicLine, newNonce } from '../../protocol/magic.ts';
import { WINDOW_BYTES } from '../../protocol/pty-proxy.ts';
import { processOf } from '../run-dir.ts';
import type { Size } from './pty.ts';

/**
 * A terminal between a channel of sshd's and a tmux client, without a relay and a server in the way of a key. Perl makes
 * it, because Node has no ioctl(2); it is part of Debian's smallest system and comes with git elsewhere. What a person
 * types passes through its memory only: beside it stands a note of how many bytes were typed, so that after a break the
 * keys go on from there. src/protocol/pty-proxy.ts says what it reads.
 */

const CHECK_DEADLINE_MS = 5_000;
/** How long a proxy may take to end when it is told to, before it is killed, and after that. */
const END_WITHIN_MS = 1_000;
const END_LOOK_MS = 5;
/** Machines whose numbers of ioctl(2) stand in the program. */
const KNOWN_MACHINES: ReadonlySet<string> = new Set(['linux x64', 'linux arm64']);

/**
 * The note is what the proxy tells of itself: whose count it is, its pid and start time, how far it came with typing,
 * and how far it began to. They differ only where it died in between: then nobody knows. The ticket names the proxy that
 * may run: one whose start came late, over a line that was given up, finds another's or none, and takes no place.
 */
const PROGRAM = String.raw`
use strict; use warnings; use POSIX (); use Fcntl; use Errno;
my ($first, $window, $ticket, $of, $typed, $columns, $rows, @client) = @ARGV;
my ($nonce) = $first =~ /(\w+)$/;
my ($UNLOCK, $NUMBER, $SIZE, $OWN, $UNREAD) = (0x40045431, 0x80045430, 0x5414, 0x540E, 0x541B);
my $told = 0;
$SIG{TERM} = sub { $told = 1 };
$SIG{PIPE} = 'IGNORE';
chdir '/';
sub fail { print STDERR "no terminal: $_[0]: $!\n"; POSIX::_exit(3) }

open(my $self, '<', '/proc/self/stat') or fail('the process');
my $start = (split ' ', (<$self> =~ s/^.*\) //sr))[19];
sysopen(my $count, "$ticket.$nonce", O_WRONLY) or fail('the note');
sub tell_count { sysseek($count, 0, 0); syswrite($count, pack('a16 Q<4', $of, $$, $start, @_)) }
tell_count($typed, $typed) or fail('the note');
open(my $current, '<', $ticket) or fail('the ticket');
<$current> eq $nonce or fail('another ticket');

sysopen(my $pty, '/dev/ptmx', O_RDWR | O_NOCTTY) or fail('ptmx');
my $number = pack('i', 0);
ioctl($pty, $UNLOCK, $number) or fail('unlock');
ioctl($pty, $NUMBER, $number) or fail('number');
my $name = '/dev/pts/' . unpack('i', $number);
sysopen(my $tty, $name, O_RDWR | O_NOCTTY) or fail('pts');
sub size { ioctl($pty, $SIZE, pack('S4', $_[1], $_[0], 0, 0)) }
size($columns, $rows) or fail('size');
my $modes = POSIX::Termios->new;
$modes->getattr(fileno $tty);
$modes->setlflag($modes->getlflag & ~POSIX::ECHO());
$modes->setattr(fileno $tty, POSIX::TCSANOW());

my $child = fork // fail('fork');
if ($child == 0) {
  POSIX::setsid();
  ioctl($tty, $OWN, 0);
  $SIG{PIPE} = $SIG{TERM} = 'DEFAULT';
  POSIX::dup2(fileno $tty, $_) for 0 .. 2;
  exec { $client[0] } @client or POSIX::_exit(127);
}
close $tty;
fcntl($pty, F_SETFL, O_RDWR | O_NONBLOCK);
fcntl(STDOUT, F_SETFL, O_WRONLY | O_NONBLOCK);

my ($in, $keys, $draw, $begun, $ended, $base) = ('', '', "$first\n", $typed, 0, $typed);
my $room = $window + length $draw;

# Whether what was read from, or written to, is gone: no bytes, and not because there are none just now.
sub gone { my ($n) = @_; defined $n ? $n == 0 : !($!{EAGAIN} || $!{EINTR}) }

sub take {
  return 0 if length $in < 5;
  my ($kind, $a, $b) = unpack('a n n', $in);
  my $size = $kind eq 'k' ? 5 + $b : 5;
  return 0 if length $in < $size;
  if ($kind eq 'k') { $begun += $a; $keys .= substr($in, 5, $b) }
  elsif ($kind eq 's') { size($a, $b) }
  elsif ($kind eq 'a') { $room += $a * 65536 + $b }
  else { POSIX::_exit(5) }
  substr($in, 0, $size) = '';
  return 1;
}

sub type {
  tell_count($typed, $begun) or POSIX::_exit(6);
  if ($keys ne '') {
    my $n = syswrite($pty, $keys);
    if (gone($n)) { $keys = ''; return }
    substr($keys, 0, $n) = '' if $n;
    return if $keys ne '';
  }
  $typed = $begun;
  tell_count($typed, $begun) or POSIX::_exit(6);
}

# What the client has not read is lost with the terminal: it is given a moment, and what it leaves then is nobody's.
sub linger {
  return if $typed == $_[0] || $keys ne '' || !sysopen(my $end, $name, O_RDONLY | O_NOCTTY | O_NONBLOCK);
  tell_count($typed, $typed + 1);
  my $calm = 0;
  for (1 .. 50) {
    select(undef, undef, undef, 0.01);
    my $unread = pack('i', 0);
    ioctl($end, $UNREAD, $unread) or return;
    $calm = unpack('i', $unread) == 0 ? $calm + 1 : 0;
    next if $calm < 2;
    tell_count($typed, $typed);
    return;
  }
}

until ($told || ($ended && $draw eq '')) {
  my ($readable, $writable) = ('', '');
  vec($readable, 0, 1) = 1 if length $keys < 65536;
  vec($readable, fileno $pty, 1) = 1 if $draw eq '' && $room > 0 && !$ended;
  vec($writable, fileno $pty, 1) = 1 if $keys ne '';
  vec($writable, 1, 1) = 1 if $draw ne '';
  next if select($readable, $writable, undef, undef) <= 0;
  if (vec($readable, fileno $pty, 1)) {
    $ended = gone(sysread($pty, $draw, $room < 16384 ? $room : 16384));
    $draw = '' if !defined $draw;
  }
  if ($draw ne '') {
    my $n = syswrite(STDOUT, $draw);
    last if gone($n);
    if ($n) { $room -= $n; substr($draw, 0, $n) = '' }
  }
  if (vec($readable, 0, 1)) {
    last if gone(sysread(STDIN, $in, 65536, length $in));
    1 while take();
    type() if $begun != $typed;
  } elsif (vec($writable, fileno $pty, 1)) { type() }
}
POSIX::_exit(0) if $ended;
linger($base);
POSIX::_exit(4);
`;

const programFile = (dir: string): string => join(dir, 'pty-proxy.pl');
const ticketFile = (dir: string, viewer: string): string => join(dir, `${viewer}.proxy`);
const noteFile = (dir: string, viewer: string, nonce: string): string =>
  `${ticketFile(dir, viewer)}.${nonce}`;

type Environment = Readonly<Record<string, string>>;

const hasPerl = (env: Environment): Promise<boolean> =>
  new Promise((resolve) => {
    const words = ['-MPOSIX', '-MFcntl', '-MErrno', '-e', '1'];
    execFile('perl', words, { env, timeout: CHECK_DEADLINE_MS }, (error) => resolve(!error));
  });

export type ProxySpec = { viewer: string; typed: Typed; size: Size; client: readonly string[] };

/** The nonce that a proxy says first, and the words that start it. */
export type Proxy = { nonce: string; argv: string[] };

export type ProxyMaker = {
  /** Throws `no-pty` on hosts that cannot run the program; they are asked once. */
  check(): Promise<void>;
  /** Lets one proxy run for a viewer. Throws `no-pty` where that cannot be noted, as on a full disk. */
  admit(spec: ProxySpec): Proxy;
};

const noWay = (why: string): KhloneError => new KhloneError('no-pty', why);

const write = (file: string, content: string | Uint8Array): void => {
  writeFileSync(`${file}.new`, content, { mode: 0o600 });
  renameSync(`${file}.new`, file);
};

const admit = (dir: string, { viewer, typed, size, client }: ProxySpec): Proxy => {
  const nonce = newNonce();
  const note = Buffer.alloc(NOTE_BYTES);
  note.write(typed.of, 'latin1');
  for (const at of [AT.typed, AT.begun]) note.writeBigUInt64LE(BigInt(typed.bytes), at);
  write(noteFile(dir, viewer, nonce), note);
  write(ticketFile(dir, viewer), nonce);
  const how = [magicLine(nonce).trimEnd(), String(WINDOW_BYTES), ticketFile(dir, viewer)];
  const from = [typed.of, String(typed.bytes), String(size.columns), String(size.rows)];
  return { nonce, argv: ['perl', programFile(dir), ...how, ...from, ...client] };
};

export const createProxyMaker = (dir: string, env: Environment): ProxyMaker => {
  const isKnown = KNOWN_MACHINES.has(`${process.platform} ${process.arch}`);
  let hasIt: Promise<boolean> | undefined;
  let isWritten = false;
  return {
    check: async () => {
      hasIt ??= isKnown ? hasPerl(env) : Promise.resolve(false);
      if (!(await hasIt)) throw noWay('this host has no perl to make a terminal with');
    },
    admit: (spec) => {
      try {
        if (!isWritten) {
          mkdirSync(dir, { recursive: true, mode: 0o700 });
          write(programFile(dir), PROGRAM);
          isWritten = true;
        }
        return admit(dir, spec);
      } catch (thrown) {
        throw noWay(`a terminal cannot be noted here: ${asKhloneError(thrown).message}`);
      }
    },
  };
};

type Note = { of: string; pid: number; start: string; typed: number; begun: number };

const AT = { pid: 16, start: 24, typed: 32, begun: 40 } as const;
const NOTE_BYTES = 48;

const readNote = (file: string): Note | undefined => {
  try {
    const bytes = readFileSync(file);
    const at = (offset: number): number => Number(bytes.readBigUInt64LE(offset));
    const [pid, typed, begun] = [at(AT.pid), at(AT.typed), at(AT.begun)];
    return { of: bytes.toString('latin1', 0, AT.pid), pid, start: String(at(AT.start)), typed, begun };
  } catch {
    return undefined;
  }
};

const isAlive = ({ pid, start }: Note): boolean => {
  const process = pid > 1 ? processOf(pid) : undefined;
  return process?.start === start && process.state !== 'Z';
};

const tell = (note: Note, signal: NodeJS.Signals): void => {
  try {
    if (isAlive(note)) process.kill(note.pid, signal);
  } catch {
    // It has ended.
  }
};

const ended = async (note: Note): Promise<boolean> => {
  const until = performance.now() + END_WITHIN_MS;
  while (isAlive(note)) {
    if (performance.now() > until) return false;
    await delay(END_LOOK_MS);
  }
  return true;
};

/** The note of the viewer's proxy, which may not begin from now on. */
const takeTicket = (dir: string, viewer: string): string | undefined => {
  try {
    const nonce = readFileSync(ticketFile(dir, viewer), 'latin1');
    rmSync(ticketFile(dir, viewer));
    return noteFile(dir, viewer, nonce);
  } catch {
    return undefined;
  }
};

/**
 * Ends the proxy of a viewer, if it had one, and answers how far it came; undefined where that is not known, because it
 * died while it typed. After this it types nothing.
 */
export const endProxy = async (dir: string, viewer: string): Promise<Typed | undefined> => {
  const file = takeTicket(dir, viewer);
  const note = file && readNote(file);
  if (!note) return undefined;
  tell(note, 'SIGTERM');
  if (!(await ended(note))) {
    tell(note, 'SIGKILL');
    await ended(note);
  }
  const last = readNote(file);
  rmSync(file, { force: true });
  return last && last.typed === last.begun ? { of: last.of, bytes: last.typed } : undefined;
};

/** For a viewer that is over. */
export const forgetProxy = (dir: string, viewer: string): void => {
  const file = takeTicket(dir, viewer);
  if (file) rmSync(file, { force: true });
};
