import { type Path, pathText } from './listing.ts';
import type { Change } from './tree.ts';

/** Files that run by themselves once they are here: an editor, a shell, a package manager or git starts what they say. */

export type Flag = { path: Path; why: string };

const RULES: readonly (readonly [RegExp, string])[] = [
  [/(?:^|\/)\.husky\//u, 'git hooks'],
  [/(?:^|\/)\.githooks\//u, 'git hooks'],
  [
    /(?:^|\/)(?:\.pre-commit-config\.yaml|\.?lefthook(?:-local)?\.(?:ya?ml|toml|json)|\.lintstagedrc.*)$/u,
    'git hooks',
  ],
  [/(?:^|\/)\.envrc$/u, 'direnv runs it in the folder'],
  [/(?:^|\/)\.vscode\/(?:tasks|launch|settings)\.json$/u, 'the editor runs it'],
  [/(?:^|\/)[^/]+\.code-workspace$/u, 'the editor runs it'],
  [/(?:^|\/)\.devcontainer(?:\/|\.json$)/u, 'the editor runs it'],
  [/(?:^|\/)\.idea\/(?:runConfigurations|workspace\.xml|watcherTasks\.xml)/u, 'the editor runs it'],
  [/(?:^|\/)\.(?:claude|codex|gemini|opencode)\//u, 'an AI tool runs it'],
  [/(?:^|\/)(?:\.mcp\.json|opencode\.jsonc?)$/u, 'an AI tool runs it'],
  [
    /(?:^|\/)\.(?:yarnrc\.yml|pnpmfile\.cjs|yarn\/releases\/.*|yarn\/plugins\/.*)$/u,
    'the package manager runs it',
  ],
  [/(?:^|\/)(?:\.mise|mise)\.toml$/u, 'mise runs it in the folder'],
  [/(?:^|\/)\.gitmodules$/u, 'git fetches from it'],
  [/^khlone(?:\.worksite)?\.yml$/u, 'khlone asks before it runs it'],
];

const isPackage = (path: Path): boolean => path === 'package.json' || path.endsWith('/package.json');

/** The parts of a package.json that npm and its like run; undefined where it is none. */
const scriptsOf = (text: string | undefined): string | undefined => {
  if (text === undefined) return '{}';
  try {
    const { scripts = {} } = JSON.parse(text) as { scripts?: unknown };
    return JSON.stringify(scripts);
  } catch {
    return undefined;
  }
};

/** Changes of package.json files, whose texts `policyFlags` wants to compare. */
export const packageChanges = (changes: readonly Change[]): Change[] =>
  changes.filter(({ path, after }) => after !== undefined && isPackage(path));

/**
 * The paths of a pull that a person should look at before going on to work. `hooksPath` is git's core.hooksPath where
 * it lies in the worktree; `packages` are the texts of `packageChanges` before and after.
 */
export const policyFlags = (
  changes: readonly Change[],
  packages: ReadonlyMap<Path, { before?: string; after?: string }>,
  hooksPath?: Path,
): Flag[] => {
  const hooks = hooksPath?.replace(/^(?:\.\/)+|\/+$/gu, '');
  return changes.flatMap(({ path, after }) => {
    if (after === undefined) return [];
    const rule = RULES.find(([pattern]) => pattern.test(pathText(path)));
    if (rule) return [{ path, why: rule[1] }];
    if (hooks && (path === hooks || path.startsWith(`${hooks}/`))) return [{ path, why: 'git hooks' }];
    if (!isPackage(path)) return [];
    const texts = packages.get(path);
    const now = scriptsOf(texts?.after);
    const isSame = texts?.after !== undefined && now !== undefined && now === scriptsOf(texts.before);
    return isSame ? [] : [{ path, why: 'package scripts changed' }];
  });
};
