import { createHash, randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { pipeline, promises } from 'node:stream';
import { createGzip } from 'node:zlib';
import { KhloneError } from '../protocol/error.ts';
import { fitsHost, type HostProbe, NODE_MAJOR_MIN, PROBE_SCRIPT, parseProbe, usableNode } from './probe.ts';
import { type Exec, type ExecResult, oneLine, VERSIONS } from './remote-shell.ts';

/** How many builds stay on a host besides those that a process uses. */
export const BUILDS_KEPT = 3;

/** The Node that may be sent to a host that has none: this process's own. */
export type LocalNode = { path: string; version: string; platform: string; arch: string };
export const ownNode = (): LocalNode => ({
  path: process.execPath,
  version: process.versions.node,
  platform: process.platform,
  arch: process.arch,
});

/** A server build by name: the version for people, eight digits of the bundle's sha256 for truth. */
export type Build = { readonly name: string; readonly sha256: string; readonly bytes: Buffer };

/** Reads the bundle at `path`. Fails with `internal` when this installation lacks it. */
export const readBuild = async (path: string, version: string): Promise<Build> => {
  const bytes = await readFile(path).catch((error: Error) => {
    throw new KhloneError(
      'internal',
      `the server bundle cannot be read: ${error.message}`,
      'reinstall khlone',
    );
  });
  if (!/^[0-9A-Za-z][0-9A-Za-z.+-]{0,60}$/.test(version))
    throw new KhloneError('internal', `"${oneLine(version, 60)}" cannot name a server build`);
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  return { name: `${version}-${sha256.slice(0, 8)}`, sha256, bytes };
};

const setupFailed = (host: string, what: string, hint: string) =>
  new KhloneError('remote-setup', `khlone-server could not be set up on ${host}: ${what}`, hint);

// Both scripts end a failure with one word on stdout and what df says, so that a full disk is told as such.
const OPENING =
  `LC_ALL=C; export LC_ALL; umask 077; v=${VERSIONS}; ` +
  'fail() { echo "failed $1"; df -Pk "$v" 2>/dev/null | tail -n 1; rm -rf "$t"; exit 65; }';

const explain = (host: string, result: ExecResult): KhloneError => {
  const lines = result.stdout.split('\n');
  const step = lines.find((line) => line.startsWith('failed '))?.slice(7) ?? `exit ${result.code}`;
  const df = oneLine(lines[lines.findIndex((line) => line.startsWith('failed ')) + 1] ?? '', 120);
  const said = oneLine(result.stderr);
  if (/no space left|quota exceeded/i.test(said))
    return setupFailed(host, `its disk is full (df: ${df})`, 'free some space there, then khlone reconnect');
  if (step.startsWith('sha'))
    return setupFailed(
      host,
      `the upload arrived damaged (${oneLine(step, 80)})`,
      'khlone reconnect tries again',
    );
  return setupFailed(
    host,
    `${oneLine(step, 80)}${said === '' ? '' : `: ${said}`}`,
    `look at it with: ssh ${host}`,
  );
};

const SHA_WITH_NODE =
  '"$t/node" -p "crypto.createHash(process.argv[1]).update(fs.readFileSync(process.argv[2])).digest(process.argv[3])" ' +
  'sha256 "$t/khlone-server.mjs" hex';

// A build whose path stands in the command line of any process is in use; where /proc cannot be read, all are kept.
// Leavings of interrupted uploads go after a day.
const PRUNE_SCRIPT = [
  `v=${VERSIONS}`,
  '[ -r /proc/self/cmdline ] || exit 0',
  `ls -1t "$v" | grep "^[0-9].*-[0-9a-f]*$" | tail -n +${BUILDS_KEPT + 1} | while read -r b; do ` +
    'grep -qsF "/versions/$b/" /proc/[0-9]*/cmdline || rm -rf "$v/$b"; done',
  'find "$v" -maxdepth 1 -name ".new-*" -mmin +1440 -exec rm -rf {} +',
].join('; ');

/**
 * Takes the bundle on stdin into a new directory and renames it to its final name, so a build is there whole or not
 * at all. Where the name exists (another client was faster, or a broken build is repaired) the files are renamed
 * one by one: the same name means the same bytes.
 */
const installScript = (build: Build, node: string, mark: string): string =>
  [
    OPENING,
    `t="$v/.new-${mark}"; b="$v/${build.name}"`,
    'mkdir -p "$t" || fail mkdir',
    'cat > "$t/khlone-server.mjs" || fail write',
    `ln -s "${node}" "$t/node" || fail link`,
    `h=$(${SHA_WITH_NODE})`,
    `[ "$h" = ${build.sha256} ] || fail "sha256 of $(wc -c < "$t/khlone-server.mjs") bytes"`,
    // The relay as a small program of its own; where it cannot be had, the bundle does its work, only later.
    '"$t/node" "$t/khlone-server.mjs" unpack </dev/null >/dev/null 2>&1',
    '"$t/node" -e "fs.renameSync(process.argv[1],process.argv[2])" "$t" "$b" 2>/dev/null || ' +
      '{ mv -f "$t"/* "$b/" && rmdir "$t"; } || fail rename',
    'echo installed',
    // With the login that is there; what it leaves is no failure.
    PRUNE_SCRIPT,
    'exit 0',
  ].join('; ');

/** Takes a Node binary on stdin, compares its sum before it runs, runs it before it counts. */
const nodeScript = (name: string, sha256: string, gzip: boolean, mark: string): string =>
  [
    OPENING,
    `t="$v/.new-${mark}"; d="$v/${name}"`,
    'mkdir -p "$d" || fail mkdir',
    `${gzip ? 'gzip -dc' : 'cat'} > "$t" || fail write`,
    'h=$(sha256sum "$t" 2>/dev/null || shasum -a 256 "$t" 2>/dev/null || openssl dgst -sha256 -r "$t" 2>/dev/null)',
    `case "$h" in ${sha256}*) ;; *) fail "sha256 of $(wc -c < "$t") bytes";; esac`,
    'chmod 700 "$t" && "$t" --version >/dev/null || fail "run the uploaded Node"',
    'mv -f "$t" "$d/node" || fail rename',
    'echo "path $d/node"',
  ].join('; ');

export type Setup = {
  /** The host as the person wrote it, for errors. */
  readonly host: string;
  readonly build: Build;
  readonly node: LocalNode;
  /** What PROBE_SCRIPT said a moment ago, where it has run already. */
  readonly probed?: string | undefined;
  /** Called before each step that takes a while. */
  readonly progress?: ((line: string) => void) | undefined;
};

const sha256OfFile = async (path: string): Promise<string> => {
  const hash = createHash('sha256');
  await promises.pipeline(createReadStream(path), hash);
  return hash.digest('hex');
};

const sendNode = async (exec: Exec, host: string, probe: HostProbe, here: LocalNode): Promise<string> => {
  const name = `node-${here.version}-${here.platform}-${here.arch}`;
  const sha256 = await sha256OfFile(here.path);
  const file = createReadStream(here.path);
  // Whoever reads the last of them is told of its error.
  const body = probe.gzip ? pipeline(file, createGzip({ level: 1 }), () => {}) : file.on('error', () => {});
  const script = nodeScript(name, sha256, probe.gzip, randomBytes(6).toString('hex'));
  // A line that breaks is tried again for as long as it takes: what was not read to its end is closed all the same.
  const result = await exec(script, body).finally(() => file.destroy());
  const path = result.stdout.match(/^path (\/[A-Za-z0-9/._+@ -]+)$/m)?.[1];
  if (result.code !== 0 || path === undefined) throw explain(host, result);
  return path;
};

const HOW_TO_NODE = `install Node ${NODE_MAJOR_MIN} or newer there (for example: mise use -g node@${NODE_MAJOR_MIN}), then khlone reconnect`;

const findNode = async (exec: Exec, setup: Setup): Promise<string> => {
  const { host, node: here, progress } = setup;
  const probe = parseProbe(setup.probed ?? (await exec(PROBE_SCRIPT)).stdout);
  const found = usableNode(probe);
  if (found) return found.path;
  if (probe.os !== 'Linux')
    throw setupFailed(
      host,
      `a zone needs Linux, this is ${oneLine(probe.os, 40) || 'an unknown system'}`,
      HOW_TO_NODE,
    );
  if (fitsHost(probe, here)) {
    progress?.(`${host} has no Node ${NODE_MAJOR_MIN}: sending ours (${here.version})`);
    return sendNode(exec, host, probe, here);
  }
  const had = probe.nodes.map((node) => node.version).join(', ') || 'none';
  const kind = `${oneLine(probe.machine, 40)} with ${probe.libc === 'unknown' ? 'an unknown libc' : probe.libc}`;
  throw setupFailed(host, `it has no Node ${NODE_MAJOR_MIN} (found: ${had}; ${kind})`, HOW_TO_NODE);
};

/**
 * Makes `build` ready on a host: finds a Node or brings one, uploads, verifies, removes old builds. Idempotent, and
 * safe beside another client that does the same. Fails with `remote-setup` and the next step for a person.
 */
export const bootstrap = async (exec: Exec, setup: Setup): Promise<void> => {
  const { host, build, progress } = setup;
  progress?.(`setting up khlone-server on ${host}`);
  const node = await findNode(exec, setup);
  const result = await exec(installScript(build, node, randomBytes(6).toString('hex')), build.bytes);
  if (result.code !== 0) throw explain(host, result);
};
