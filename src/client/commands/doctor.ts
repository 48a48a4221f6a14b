import { spawn } from 'node:child_process';
import { Command } from 'clipanion';
import type { AnswerOf } from '../../protocol/calls.ts';
import { asKhloneError } from '../../protocol/error.ts';
import { oneLine } from '../../protocol/sanitize.ts';
import { call } from '../call.ts';
import { mark } from '../render/receipt.ts';
import { unreadableLine } from '../render/status.ts';
import { serverOf } from '../server-call.ts';
import { loadSiteConfig } from '../site-config.ts';
import { needsTrust } from '../trust.ts';
import { findWorktree } from '../worktree.ts';
import { KhloneCommand } from './base.ts';

type Check = { what: string; ok: boolean; says: string; hint?: string; isBrain?: true };

/** Without these no task can run. */
const NEEDED = /^(git|tmux|server|khlone\.yml)/;

const PROBE_DEADLINE_MS = 30_000;
const VERSION_DEADLINE_MS = 5_000;

/** First line of `git --version`, or nothing. */
const gitVersion = (path: string | undefined): Promise<string | undefined> =>
  new Promise((resolve) => {
    const child = spawn('git', ['--version'], {
      env: { PATH: path ?? '' },
      stdio: ['ignore', 'pipe', 'ignore'],
      timeout: VERSION_DEADLINE_MS,
    });
    let text = '';
    child.stdout.on('data', (chunk: Buffer) => {
      text += chunk.toString();
    });
    child.on('error', () => resolve(undefined));
    child.on('close', (code) => resolve(code === 0 ? text.trim().replace(/^git version /, '') : undefined));
  });

const olderThan = (version: string, major: number, minor: number): boolean => {
  const [a = 0, b = 0] = version.split('.').map((part) => Number.parseInt(part, 10));
  return a < major || (a === major && b < minor);
};

const gitCheck = async (path: string | undefined): Promise<Check> => {
  const version = await gitVersion(path);
  if (!version) return { what: 'git', ok: false, says: 'not found', hint: 'install git 2.38 or newer' };
  if (olderThan(version, 2, 38))
    return { what: 'git', ok: false, says: version, hint: 'upgrade to 2.38 or newer: pulling needs it' };
  return { what: 'git', ok: true, says: version };
};

const machineChecks = ({ brains, view, tmux }: AnswerOf<'brain.probe'>, on: string): Check[] => [
  {
    what: `tmux${on}`,
    ok: tmux.version !== undefined,
    says: tmux.version ?? tmux.why ?? 'not found',
    ...(tmux.version === undefined && { hint: 'install tmux 3.2 or newer' }),
  },
  {
    what: `view${on}`,
    ok: view.kind !== undefined,
    says: view.kind ?? view.why,
    ...(view.kind === undefined && {
      hint: 'install bubblewrap; without a view asks are compared afterwards, and asks by sh refused',
    }),
  },
  ...brains.map((brain) => ({
    what: `${oneLine(brain.name, 60)}${on}`,
    ok: brain.ready,
    says: brain.ready
      ? (brain.version ?? 'ready')
      : (brain.why ?? 'not ready').replace(`${brain.name} is `, ''),
    isBrain: true as const,
    ...(brain.hint && !brain.ready && { hint: brain.hint }),
  })),
];

/** A brain that is not there is no fault: one is enough. */
const signOf = ({ ok, what, isBrain }: Check): 'done' | 'failed' | 'idle' | 'attention' => {
  if (ok) return 'done';
  if (isBrain) return 'idle';
  return NEEDED.test(what) ? 'failed' : 'attention';
};

export class DoctorCommand extends KhloneCommand {
  static override paths = [['doctor']];
  static override usage = Command.Usage({
    category: 'Machine',
    description: 'check everything and say what to do',
    details:
      'Ends with 2 when something that every task needs is missing; a brain that is not installed is only told.',
  });

  override async execute(): Promise<number> {
    const checks = [...(await this.client()), ...(await this.machines())];
    if (this.json) this.give(checks);
    else {
      const style = this.style('stdout');
      for (const check of checks) {
        this.caller.out(`${mark(style, signOf(check))} ${check.what}: ${oneLine(check.says, 400)}\n`);
        if (check.hint) this.caller.out(`  ${mark(style, 'next')} ${oneLine(check.hint, 400)}\n`);
      }
    }
    return checks.every((check) => check.ok || !NEEDED.test(check.what)) ? 0 : 2;
  }

  async client(): Promise<Check[]> {
    const checks: Check[] = [
      {
        what: 'khlone',
        ok: true,
        says: `${this.app.version}, Node ${process.versions.node}, home ${this.app.home.root}`,
      },
      await gitCheck(this.caller.env.PATH),
      ...this.outbox(),
    ];
    const worktree = await findWorktree(this.caller.cwd).catch(() => undefined);
    if (!worktree)
      return [
        ...checks,
        { what: 'repository', ok: false, says: 'not in one', hint: 'cd into a git repository' },
      ];
    checks.push({ what: 'repository', ok: true, says: worktree.address });
    try {
      const config = await loadSiteConfig(worktree.root);
      const question = await needsTrust(this.app.home, worktree, config);
      checks.push({ what: 'khlone.yml', ok: true, says: 'reads well' });
      if (question) checks.push({ what: 'trust', ok: false, says: question.short, hint: 'khlone trust' });
    } catch (thrown) {
      const error = asKhloneError(thrown);
      checks.push({
        what: 'khlone.yml',
        ok: false,
        says: error.message,
        ...(error.hint && { hint: error.hint }),
      });
    }
    return checks;
  }

  outbox(): Check[] {
    const says = unreadableLine(this.app.outbox.unreadable());
    return says === undefined
      ? []
      : [{ what: 'outbox', ok: false, says, hint: 'install that version again' }];
  }

  async machines(): Promise<Check[]> {
    const here = await this.hereOrNone();
    const hosts = ['local', ...(here && here.host !== 'local' ? [here.host] : [])];
    const found = await Promise.all(hosts.map((host) => this.machine(host)));
    return found.flat();
  }

  async machine(host: string): Promise<Check[]> {
    const on = host === 'local' ? '' : ` on ${oneLine(host, 100)}`;
    try {
      const { peer, server } = await serverOf(this.app, this.caller, host);
      const environment = host === 'local' ? this.caller.env : {};
      const survey = await call(peer, 'brain.probe', { environment }, { timeoutMs: PROBE_DEADLINE_MS });
      return [
        { what: `server${on}`, ok: true, says: `${server.build}, ${server.home}` },
        ...this.backend(host),
        ...machineChecks(survey, on),
      ];
    } catch (thrown) {
      const error = asKhloneError(thrown);
      return [
        { what: `server${on}`, ok: false, says: error.message, ...(error.hint && { hint: error.hint }) },
        ...this.backend(host),
      ];
    }
  }

  /** Which program speaks SSH to a host, once something was dialled. */
  backend(host: string): Check[] {
    const choice = this.app.backend(host);
    if (choice === undefined) return [];
    return [{ what: `ssh to ${oneLine(host, 100)}`, ok: true, says: `by ${choice.backend}: ${choice.why}` }];
  }
}
