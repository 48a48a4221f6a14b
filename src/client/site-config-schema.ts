import * as z from 'zod';
import { parseDurationMs, parseSizeBytes } from './measure.ts';

/**
 * The shape of khlone.yml as a person writes it. An empty key (`hooks:`) counts as absent. Each value carries the
 * sentence that is shown when it is wrong; for unknown keys that "sentence" is the list of the known ones, out of
 * which site-config-parse.ts names the nearest.
 */

const strict = <Shape extends z.ZodRawShape>(shape: Shape) =>
  z.strictObject(shape, {
    error: (issue) => (issue.code === 'unrecognized_keys' ? Object.keys(shape).join(' ') : undefined),
  });

const amount = (parse: (text: string) => number | undefined, expected: string) =>
  z.union([z.string(), z.number()], { error: expected }).transform((value, context) => {
    const parsed = typeof value === 'string' ? parse(value) : undefined;
    if (parsed !== undefined) return parsed;
    context.addIssue({ code: 'custom', message: expected });
    return z.NEVER;
  });
const duration = amount(parseDurationMs, 'expected a duration with its unit, such as 4h, 30m or 90d');
const size = amount(parseSizeBytes, 'expected a size with its unit, such as 10MB');

/** Text without control characters: no value of ours needs one, and some would reach a terminal or a file name. */
const CLEAN = /^[^\p{Cc}\p{Cs}\u2028\u2029]*$/u;
const line = (max = 1000) =>
  z
    .string('expected text')
    .min(1, 'is empty')
    .max(max, `is longer than ${max} characters`)
    .regex(CLEAN, 'holds control characters');
const matching = (pattern: RegExp, expected: string, max = 200) => line(max).regex(pattern, expected);

const argv = z
  .array(
    z
      .string('expected words, such as [npm, ci]')
      .max(10_000)
      .regex(/^[^\0]*$/u, 'holds a NUL'),
    'expected a list of words, such as [npm, ci]',
  )
  .min(1, 'needs at least the program')
  .max(200, 'has more than 200 words')
  .refine((words) => words[0] !== '' && !words[0]?.startsWith('-'), 'the first word is not a program');

const name = matching(/^[a-z][a-z0-9-]*$/u, 'expected a name of small letters, digits and "-"', 40);
const brain = matching(
  /^[a-z][a-z0-9-]*(:[\w./:@-]+)?$/u,
  'expected a brain, such as claude or claude:haiku',
);
/** `org/role` or a name; a role of another repository's convention may be written `.agent`-style with "=". */
const roleName = matching(
  /^[a-z0-9][\w.-]*(\/[a-z0-9][\w.-]*)*$/iu,
  'expected a role, such as mechanic or org/mechanic',
);

const isInside = (path: string): boolean => !/^[/~\\]/u.test(path) && !path.split(/[/\\]/u).includes('..');
const inside = line().refine(isInside, 'expected a path inside the repository');

const host = matching(
  /^(?!-)(?:[\w.+-]+@(?!-))?(?:[\p{L}\p{N}_.-]+|\[[0-9a-f:.%]+\])(?::\d{1,5})?$/iu,
  'expected a Host of ~/.ssh/config, or user@host:port',
);
const path = line().refine(
  (text) => /^(~\/|\/)/u.test(text) && !text.split('/').includes('..'),
  'expected an absolute path or one from ~/, without ".."',
);
const disk = z
  .union([z.number(), z.string()], { error: 'expected gigabytes, such as 60' })
  .transform((value, context) => {
    const gigabytes = typeof value === 'number' ? value : (parseSizeBytes(value) ?? Number.NaN) / 1e9;
    if (Number.isInteger(gigabytes) && gigabytes >= 8 && gigabytes <= 16_384) return gigabytes;
    context.addIssue({ code: 'custom', message: 'expected whole gigabytes from 8 to 16384, such as 60' });
    return z.NEVER;
  });

const instance = strict({
  type: matching(
    /^[a-z0-9][a-z0-9-]*\.[a-z0-9-]+$/u,
    'expected an instance type, such as m6i.xlarge',
  ).nullish(),
  region: matching(/^[a-z]{2,4}(-[a-z]+)+-\d{1,2}$/u, 'expected a region, such as us-east-1').nullish(),
  ami: matching(/^ami-[0-9a-f]{4,32}$/u, 'expected an image, such as ami-0123').nullish(),
  disk: disk.nullish(),
  market: z.enum(['on-demand', 'spot']).nullish(),
});

const constraints = strict({
  ttl: duration.nullish(),
  idle: duration.nullish(),
  on_end: z.enum(['halt', 'drop']).nullish(),
  cost_limit: z
    .number('expected US dollars')
    .positive('expected more than 0')
    .max(1_000_000, 'is over 1000000')
    .nullish(),
  on_limit: z.enum(['alert', 'hold', 'halt']).nullish(),
});

const zone = strict({
  mode: z.enum(['local', 'ssh', 'ec2', 'remote']).nullish(),
  host: host.nullish(),
  path: path.nullish(),
  backend: z.enum(['auto', 'ssh2', 'openssh']).nullish(),
  instance: instance.nullish(),
  constraints: constraints.nullish(),
});

const repo = strict({
  origin: line()
    .regex(/^[^-\s][^\s]*$/u, 'expected the url of a git repository')
    .nullish(),
  deploy_key: line()
    .refine((text) => !text.startsWith('-'), 'expected a path')
    .nullish(),
  history: z.enum(['branch', 'full']).nullish(),
});

const hero = z.union([roleName, strict({ role: roleName.nullish(), brain: brain.nullish() })], {
  error: 'expected a role, or { role, brain }',
});

const brainChoice = z.union([brain, strict({ acp: argv }), strict({ command: argv })], {
  error: 'expected a brain such as claude:haiku, { acp: [words] } or { command: [words] }',
});

const crewKeys = {
  'clone.0': hero.nullish(),
  hero: hero.nullish(),
  defaults: strict({ brain: brain.nullish() }).nullish(),
  limits: strict({
    max_clones: z
      .int('expected a whole number')
      .min(1, 'expected 1 or more')
      .max(256, 'is over 256')
      .nullish(),
    max_queue: z
      .int('expected a whole number')
      .min(1, 'expected 1 or more')
      .max(10_000, 'is over 10000')
      .nullish(),
  }).nullish(),
  permissions: z.enum(['free', 'ask']).nullish(),
  sandbox: z.enum(['zone', 'off']).nullish(),
  isolation: z.enum(['shared', 'worktree']).nullish(),
  brains: z.record(name, brainChoice, 'expected brains by name').nullish(),
};

const role = z.union([roleName, strict({ path: inside, brain: brain.nullish() })], {
  error: 'expected org/role, or { path, brain }',
});

const artifact = matching(/^[\w.-]+$/u, 'expected a name for the artifact', 100).nullish();
const hook = z.union(
  [
    strict({
      prompt: z.string('expected text').min(1, 'is empty').max(20_000, 'is longer than 20000 characters'),
      artifact,
    }),
    strict({ run: argv, artifact }),
  ],
  { error: 'expected { prompt, artifact } or { run: [words], artifact }' },
);

/** A shell's syntax in a secret's words is a slip: no shell reads them. */
const SECRET = /^(?:env:[A-Za-z_][A-Za-z0-9_]*|cmd:[^\s"'`$|&;<>()\\-][^"'`$|&;<>()\\]*)$/u;
const secretName = matching(/^(?!KHLONE_)[A-Za-z_][A-Za-z0-9_]*$/u, 'expected a variable name', 100);
const secret = matching(SECRET, 'expected env:NAME or "cmd:program words" (words, not a shell)');

const list = <Item extends z.ZodType>(item: Item, max: number, expected: string) =>
  z.array(item, expected).max(max, `has more than ${max} entries`).nullish();

export const SiteFile = strict({
  zone: zone.nullish(),
  supplies: list(
    matching(/^[A-Za-z0-9][\w.:/+-]*(@[\w.:/@+-]+)?$/u, 'expected a tool, such as node@22'),
    100,
    'expected a list of tools, such as [node@22, gh]',
  ),
  setup: list(argv, 50, 'expected a list of commands, such as [[npm, ci]]'),
  repo: repo.nullish(),
  crew: strict(crewKeys).nullish(),
  roles: z.record(name, role, 'expected roles by name').nullish(),
  hooks: strict({ onStop: list(hook, 20, 'expected a list of hooks') }).nullish(),
  sync: strict({
    auto: z.boolean('expected true or false').nullish(),
    max_file: size.nullish(),
    include: list(inside, 1000, 'expected a list of patterns'),
    exclude: list(inside, 1000, 'expected a list of patterns'),
  }).nullish(),
  secrets: z.record(secretName, secret, 'expected secrets by name').nullish(),
  retention: strict({ transcripts: duration.nullish(), disk: size.nullish() }).nullish(),
  // The older layout: keys of zone and crew at the top.
  instance: instance.nullish(),
  constraints: constraints.nullish(),
  ...crewKeys,
});
export type SiteFile = z.infer<typeof SiteFile>;
export type CrewFile = NonNullable<SiteFile['crew']>;
export type ZoneFile = NonNullable<SiteFile['zone']>;
