import {
  type Constraints,
  DEFAULT_SITE_CONFIG,
  EC2_DEFAULTS,
  type Instance,
  type Mode,
  type SiteConfig,
} from './site-config.ts';
import type { CrewFile, SiteFile, ZoneFile } from './site-config-schema.ts';

/** From what a person wrote to what holds: the older layout lifted into the new one, then every default filled in. */

const ZONE_KEYS = ['instance', 'constraints'] as const;
const CREW_KEYS = [
  'clone.0',
  'hero',
  'defaults',
  'limits',
  'permissions',
  'sandbox',
  'isolation',
  'brains',
] as const;

/** The object without absent values, so that an optional key is either there or not. */
type Present<T> = { [K in keyof T]?: NonNullable<T[K]> };
const present = <T extends object>(value: T): Present<T> =>
  Object.fromEntries(
    Object.entries(value).filter(([, inner]) => inner !== undefined && inner !== null),
  ) as Present<T>;

const isGiven = (value: unknown): boolean => value !== undefined && value !== null;

const zoneOf = (file: SiteFile): ZoneFile => ({ ...present(file.zone ?? {}), ...pick(file, ZONE_KEYS) });
const crewOf = (file: SiteFile): CrewFile => ({ ...present(file.crew ?? {}), ...pick(file, CREW_KEYS) });
const pick = <T extends object, K extends keyof T>(value: T, keys: readonly K[]): Partial<Pick<T, K>> =>
  Object.fromEntries(keys.filter((key) => isGiven(value[key])).map((key) => [key, value[key]])) as Partial<
    Pick<T, K>
  >;

/** Mistakes that no single key shows: one thing said twice, or a mode without what it needs. */
export const misplaced = (file: SiteFile): { path: string[]; says: string }[] => {
  const twice = (keys: readonly string[], section: 'zone' | 'crew') =>
    keys
      .filter((key) => isGiven(file[key as keyof SiteFile]) && isGiven(file[section]?.[key as never]))
      .map((key) => ({ path: [key], says: `${key} is set here and in ${section}; keep ${section}.${key}` }));
  const crew = crewOf(file);
  const zone = zoneOf(file);
  const heroes = isGiven(crew['clone.0']) && isGiven(crew.hero);
  const heroPath = isGiven(file.crew?.hero) ? ['crew', 'hero'] : ['hero'];
  const needsHost = modeOf(zone) === 'ssh' && !isGiven(zone.host);
  return [
    ...twice(ZONE_KEYS, 'zone'),
    ...twice(CREW_KEYS, 'crew'),
    ...(heroes ? [{ path: heroPath, says: 'hero and clone.0 are the same key; keep one' }] : []),
    ...(needsHost
      ? [{ path: ['zone', 'mode'], says: `zone.mode: ${zone.mode} needs zone.host (or zone.instance)` }]
      : []),
  ];
};

const modeOf = (zone: ZoneFile): Mode => {
  if (zone.mode !== 'remote') return zone.mode ?? 'local';
  return isGiven(zone.instance) ? 'ec2' : 'ssh';
};

const constraintsOf = (zone: ZoneFile, mode: Mode): Constraints => {
  const given = zone.constraints ?? {};
  const ends = mode === 'ec2' ? EC2_DEFAULTS : { ttlMs: undefined, idleMs: undefined };
  return {
    onEnd: given.on_end ?? 'halt',
    onLimit: given.on_limit ?? 'alert',
    ...present({
      ttlMs: given.ttl ?? ends.ttlMs,
      idleMs: given.idle ?? ends.idleMs,
      costLimitUsd: given.cost_limit,
    }),
  };
};

const instanceOf = (zone: ZoneFile, mode: Mode): Instance | undefined => {
  if (!isGiven(zone.instance) && mode !== 'ec2') return undefined;
  const { type, region, ami, disk, market } = zone.instance ?? {};
  return {
    diskGb: disk ?? EC2_DEFAULTS.diskGb,
    market: market ?? 'on-demand',
    ...present({ type, region, ami }),
  };
};

const fillZone = (file: SiteFile): SiteConfig['zone'] => {
  const zone = zoneOf(file);
  const mode = modeOf(zone);
  return {
    mode,
    modeGiven: isGiven(zone.mode),
    backend: zone.backend ?? 'auto',
    constraints: constraintsOf(zone, mode),
    ...present({ host: zone.host, path: zone.path, instance: instanceOf(zone, mode) }),
  };
};

const fillCrew = (file: SiteFile, mode: Mode): SiteConfig['crew'] => {
  const crew = crewOf(file);
  const hero = crew['clone.0'] ?? crew.hero ?? {};
  const limits = DEFAULT_SITE_CONFIG.crew.limits;
  return {
    hero: typeof hero === 'string' ? { role: hero } : present(hero),
    defaults: present(crew.defaults ?? {}),
    limits: {
      maxClones: crew.limits?.max_clones ?? limits.maxClones,
      maxQueue: crew.limits?.max_queue ?? limits.maxQueue,
    },
    permissions: crew.permissions ?? 'free',
    sandbox: crew.sandbox ?? (mode === 'ec2' ? 'off' : 'zone'),
    isolation: crew.isolation ?? 'shared',
    brains: { ...crew.brains },
  };
};

/** The whole configuration. Known here: `misplaced` had nothing to say. */
export const fillDefaults = (file: SiteFile): SiteConfig => {
  const zone = fillZone(file);
  const { sync, retention } = DEFAULT_SITE_CONFIG;
  return {
    zone,
    supplies: file.supplies ?? [],
    setup: file.setup ?? [],
    repo: {
      history: file.repo?.history ?? 'branch',
      ...present({ origin: file.repo?.origin, deployKey: file.repo?.deploy_key }),
    },
    crew: fillCrew(file, zone.mode),
    roles: Object.fromEntries(
      Object.entries(file.roles ?? {}).map(([name, role]) => [
        name,
        typeof role === 'string' ? role : { path: role.path, ...present({ brain: role.brain }) },
      ]),
    ),
    hooks: {
      onStop: (file.hooks?.onStop ?? []).map(({ artifact, ...hook }) => ({
        ...hook,
        ...present({ artifact }),
      })),
    },
    sync: {
      auto: file.sync?.auto ?? sync.auto,
      autoGiven: isGiven(file.sync?.auto),
      maxFileBytes: file.sync?.max_file ?? sync.maxFileBytes,
      include: file.sync?.include ?? [],
      exclude: file.sync?.exclude ?? [],
    },
    secrets: { ...file.secrets },
    retention: {
      transcriptsMs: file.retention?.transcripts ?? retention.transcriptsMs,
      diskBytes: file.retention?.disk ?? retention.diskBytes,
    },
  };
};
