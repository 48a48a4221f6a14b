import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type BuildOptions, build, type Metafile, type Plugin } from 'esbuild';

/** One program of khlone. `notAtStart` names packages that may not be loaded before they are needed. */
type Program = { entry: string; output: string; options: BuildOptions; notAtStart: string[] };

const ROOT = import.meta.dirname;

const main = async (): Promise<void> => {
  const [relay, ranges] = await Promise.all([
    carriedText('src/server/relay-start.ts'),
    carriedText('src/patch/ranges-worker.ts'),
  ]);
  const built = await Promise.all(programs(relay, ranges).map(bundle));
  await removeStaleChunks(built);
};

const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string };

/** The sources' own hash: two builds of one version are told apart, so that a hub never serves another build's command. */
function sourceHash(): string {
  const hash = createHash('sha256');
  const files = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' });
  for (const file of files.filter((name) => name.endsWith('.ts')).sort()) {
    hash.update(file).update(readFileSync(join(ROOT, 'src', file)));
  }
  return hash.digest('hex').slice(0, 8);
}

/** The part of ssh2 that makes packets gets its cryptography from a file of ours. */
const ciphersAhead: Plugin = {
  name: 'ciphers ahead',
  setup: ({ onResolve }) => {
    onResolve({ filter: /^crypto$/ }, ({ importer }) =>
      importer.endsWith(PACKETS) ? { path: join(ROOT, 'src/client/link/ssh-ciphers.ts') } : undefined,
    );
  },
};
const PACKETS = join('ssh2', 'lib', 'protocol', 'crypto.js');

const SHARED: BuildOptions = {
  absWorkingDir: ROOT,
  bundle: true,
  platform: 'node',
  target: 'node24',
  // Not minified: Node prints the failing source line, and a bundle of one line would be all of it.
  legalComments: 'none',
  charset: 'utf8',
  // ssh2's native parts are not carried along, and not found beside a bundle: Node's own cryptography does their work.
  external: ['cpu-features', 'node-pty', '*.node'],
  plugins: [ciphersAhead],
  define: {
    __KHLONE_VERSION__: JSON.stringify(version),
    __KHLONE_BUILD__: JSON.stringify(`${version}+${sourceHash()}`),
  },
  metafile: true,
  logLevel: 'warning',
};

// What bundled CommonJS packages expect and an ES module lacks (ssh2 reads __dirname when it loads).
const COMMONJS_WORDS = [
  "import { createRequire as requireFrom } from 'node:module';",
  'const require = requireFrom(import.meta.url), __filename = import.meta.filename, __dirname = import.meta.dirname;',
].join('\n');

const ES_MODULE: BuildOptions = { format: 'esm', banner: { js: COMMONJS_WORDS } };

/**
 * A program as text inside another: the server's one file carries the relay, which it unpacks on each machine, and the
 * hub carries the thread that looks for the lines of a conflict, so that no path to either has to be known.
 */
const carriedText = async (entry: string): Promise<string> => {
  const options: BuildOptions = { entryPoints: [entry], format: 'cjs', outfile: 'carried.cjs', write: false };
  const { outputFiles } = await build({ ...SHARED, ...options });
  return outputFiles?.[0]?.text ?? '';
};

const programs = (relay: string, ranges: string): Program[] => [
  {
    // Runs once per prompt line that has no zsh plugin: every package here is paid for on each command.
    entry: 'src/client/command.ts',
    output: 'dist/command.cjs',
    options: { format: 'cjs', outfile: 'dist/command.cjs' },
    notAtStart: ['zod', 'clipanion', 'yaml', 'ssh2'],
  },
  {
    // Loaded by the command where a person looks into a zone. node-pty is native: found beside us, or done without.
    entry: 'src/client/attach/attach.ts',
    output: 'dist/attach.cjs',
    options: { format: 'cjs', outfile: 'dist/attach.cjs' },
    notAtStart: ['zod', 'clipanion', 'yaml', 'ssh2'],
  },
  {
    entry: 'src/client/hub.ts',
    output: 'dist/hub.mjs',
    options: {
      ...ES_MODULE,
      splitting: true,
      outdir: 'dist',
      entryNames: '[name]',
      chunkNames: 'chunks/[name]-[hash]',
      outExtension: { '.js': '.mjs' },
      define: { ...SHARED.define, __KHLONE_RANGES__: JSON.stringify(ranges) },
    },
    notAtStart: ['ssh2'],
  },
  {
    // One file without chunks: it is copied to other machines as it is.
    entry: 'src/server/main.ts',
    output: 'dist/khlone-server.mjs',
    options: {
      ...ES_MODULE,
      outfile: 'dist/khlone-server.mjs',
      define: { ...SHARED.define, __KHLONE_RELAY__: JSON.stringify(relay) },
    },
    notAtStart: ['clipanion', 'yaml', 'ssh2'],
  },
];

/** Builds one program and proves what it loads when it starts. */
const bundle = async ({ entry, output, options, notAtStart }: Program): Promise<Metafile> => {
  const { metafile } = await build({ ...SHARED, ...options, entryPoints: [entry] });
  if (metafile === undefined) throw new Error('esbuild gave no metafile');
  refuseLazyPackages(metafile);
  const loaded = packagesLoadedBy(output, metafile);
  const wrong = notAtStart.filter((name) => loaded.has(name));
  if (wrong.length > 0) throw new Error(`${output} loads ${wrong.join(', ')} when it starts`);
  console.log(`✓ ${output} ${Math.round((metafile.outputs[output]?.bytes ?? 0) / 1024)} KiB`);
  return metafile;
};

/** Split bundles give import() of a CommonJS package its default export only; through a file of ours all names are there. */
const refuseLazyPackages = (metafile: Metafile): void => {
  for (const [file, { imports }] of Object.entries(metafile.inputs)) {
    if (file.includes('node_modules/')) continue;
    const lazy = imports.find(
      ({ kind, path }) => kind === 'dynamic-import' && path.includes('node_modules/'),
    );
    if (lazy === undefined) continue;
    throw new Error(`${file}: import() a file of ours that imports ${lazy.original} statically`);
  }
};

/** Packages in a bundle and in the chunks that it imports statically. */
const packagesLoadedBy = (
  output: string,
  metafile: Metafile,
  seen = new Set<string>(),
): ReadonlySet<string> => {
  const packages = new Set<string>();
  const chunk = metafile.outputs[output];
  if (chunk === undefined || seen.has(output)) return packages;
  seen.add(output);
  for (const input of Object.keys(chunk.inputs)) {
    const name = /.*node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(input)?.[1];
    if (name !== undefined) packages.add(name);
  }
  for (const { path, kind } of chunk.imports) {
    if (kind === 'dynamic-import') continue;
    for (const name of packagesLoadedBy(path, metafile, seen)) packages.add(name);
  }
  return packages;
};

/** Chunks of earlier builds would be published with this one. Those of this build are left alone. */
const removeStaleChunks = async (built: Metafile[]): Promise<void> => {
  const current = new Set(built.flatMap((metafile) => Object.keys(metafile.outputs)));
  const present = await readdir(join(ROOT, 'dist/chunks')).catch(() => []);
  const stale = present.map((name) => `dist/chunks/${name}`).filter((path) => !current.has(path));
  await Promise.all(stale.map((path) => rm(join(ROOT, path))));
};

await main().catch((error: unknown) => {
  console.error(`✗ build: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
});
