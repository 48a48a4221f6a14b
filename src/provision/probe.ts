import { VERSIONS } from './remote-shell.ts';

/** The oldest Node that runs khlone-server. */
export const NODE_MAJOR_MIN = 24;

export type RemoteNode = { readonly path: string; readonly version: string };

/** What a host says about itself. Words of a stranger: paths are checked before they go into a script. */
export type HostProbe = {
  readonly os: string;
  /** As uname -m has it: x86_64, aarch64. */
  readonly machine: string;
  readonly libc: 'glibc' | 'musl' | 'unknown';
  readonly gzip: boolean;
  readonly nodes: readonly RemoteNode[];
};

const CANDIDATES = [
  '"$(command -v node)"',
  `${VERSIONS}/node-*/node`,
  '"$HOME"/.nvm/versions/node/*/bin/node',
  '"$HOME"/.local/share/mise/installs/node/*/bin/node',
  '"$HOME"/.local/share/fnm/node-versions/*/installation/bin/node',
  '"$HOME"/.volta/tools/image/node/*/bin/node',
  '"$HOME"/.asdf/installs/nodejs/*/bin/node',
  '"$HOME"/.local/bin/node',
  '/usr/local/bin/node',
  '/usr/bin/node',
  '/opt/node*/bin/node',
].join(' ');

/** One sh script that tells all a bootstrap needs, one fact a line. A shim (volta, mise) answers with the real binary. */
export const PROBE_SCRIPT = [
  'echo "uname $(uname -sm)"',
  'echo "libc $(getconf GNU_LIBC_VERSION 2>/dev/null || ls /lib/ld-musl-* 2>/dev/null)"',
  'command -v gzip >/dev/null && echo "has gzip"',
  `for n in ${CANDIDATES}; do [ -x "$n" ] && echo "node $("$n" -p process.execPath+process.version </dev/null 2>/dev/null)"; done`,
  'exit 0',
].join('; ');

const libcOf = (word: string): HostProbe['libc'] => {
  if (/^glibc\b/i.test(word)) return 'glibc';
  return word.includes('ld-musl') ? 'musl' : 'unknown';
};

const nodeOf = (word: string): RemoteNode | undefined => {
  const [, path, version] = word.match(/^(\/[A-Za-z0-9/._+@ -]{1,400}?)v(\d+\.\d+\.\d+)\S*$/) ?? [];
  return path === undefined || version === undefined ? undefined : { path, version };
};

/** Reads what PROBE_SCRIPT printed. Unknown lines are skipped, so a newer script may say more. Never throws. */
export const parseProbe = (text: string): HostProbe => {
  const words = (key: string): string[] =>
    text
      .split('\n')
      .flatMap((line) => (line.startsWith(`${key} `) ? [line.slice(key.length + 1).trim()] : []));
  const [os = '', machine = ''] = (words('uname')[0] ?? '').split(' ');
  const nodes = words('node').flatMap((word) => nodeOf(word) ?? []);
  return {
    os,
    machine,
    libc: libcOf(words('libc')[0] ?? ''),
    gzip: words('has').includes('gzip'),
    nodes: nodes.filter((node, at) => nodes.findIndex((other) => other.path === node.path) === at),
  };
};

/** The newest Node on the host that is new enough. */
export const usableNode = (probe: HostProbe): RemoteNode | undefined => {
  const order = (version: string) => version.split('.').reduce((sum, part) => sum * 10_000 + Number(part), 0);
  return probe.nodes
    .filter((node) => Number.parseInt(node.version, 10) >= NODE_MAJOR_MIN)
    .sort((a, b) => order(b.version) - order(a.version))[0];
};

/** Whether a Node binary of this machine may run there: same system, same processor, glibc. */
export const fitsHost = (probe: HostProbe, here: { platform: string; arch: string }): boolean => {
  const machines: Record<string, string> = { x64: 'x86_64', arm64: 'aarch64' };
  return (
    here.platform === 'linux' &&
    probe.os === 'Linux' &&
    probe.libc === 'glibc' &&
    machines[here.arch] === probe.machine
  );
};
