import { readFile, stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { Option } from 'clipanion';
import { parseWho } from '../../protocol/address.ts';
import { KhloneError } from '../../protocol/error.ts';
import { PROMPT_MAX_BYTES } from '../../protocol/limits.ts';
import { awaitTask } from '../await-task.ts';
import { dispatch, type Receipt } from '../dispatch.ts';
import { durationMs } from '../duration.ts';
import { beginCheck, type Sent, syncFirst, unsentFiles } from '../patches/unsent.ts';
import { type Place, placeOf } from '../place.ts';
import { queuedLine } from '../render/patches.ts';
import { mark, receiptLines } from '../render/receipt.ts';
import { counted } from '../render/status.ts';
import { sessionFor } from '../sessions.ts';
import { KhloneCommand } from './base.ts';

/** act and ask: the words become a task, the receipt says where it went. */
export abstract class DispatchCommand extends KhloneCommand {
  abstract kind: 'ask' | 'act';

  who = Option.String('--who', { description: 'the clone: [role][.n][@brain][++]' });
  session = Option.String('--session', { description: 'the conversation that the task joins' });
  prioritize = Option.Boolean('--prioritize,--priority', false, {
    description: 'front of the queue, after the active task',
  });
  wait = Option.Boolean('--await', false, {
    description: 'block; the answer, and only the answer, on stdout',
  });
  watch = Option.Boolean('--watch', false, { description: 'progress on stderr until the task ends' });
  timeout = Option.String('--timeout', { description: 'how long this command waits, such as 10m' });
  limit = Option.String('--limit', { description: 'how long the task may take, such as 30m' });
  file = Option.String('--file', { description: 'a file with the prompt' });
  sync = Option.Boolean('--sync', false, { description: 'your changes go to the zone first' });
  words = Option.Rest();

  /** Words are joined; `-` appends stdin; without words a pipe is the prompt, so that loops never eat their own input. */
  async prompt(): Promise<string> {
    const words = this.words.filter((word) => word !== '-');
    const wantsStdin =
      this.words.includes('-') || (words.length === 0 && !this.file && !this.caller.terminal.stdin);
    const parts = [words.join(' ')];
    if (this.file) parts.push(await this.readPromptFile(this.file));
    if (wantsStdin) parts.push(decode(await this.caller.readStdin(PROMPT_MAX_BYTES + 1), 'standard input'));
    const text = parts.filter((part) => part !== '').join('\n');
    if (text.trim() === '') {
      throw new KhloneError('usage', `${this.kind} what?`, `khlone ${this.kind} "…", a pipe, or --file FILE`);
    }
    if (text.includes('\0'))
      throw new KhloneError('usage', 'the prompt holds a NUL byte', 'remove it: no program can read it');
    if (Buffer.byteLength(text) > PROMPT_MAX_BYTES) throw tooLong();
    return text;
  }

  async readPromptFile(name: string): Promise<string> {
    const path = resolve(this.caller.cwd, name);
    const facts = await stat(path).catch(() => undefined);
    if (!facts?.isFile()) throw new KhloneError('usage', `no file ${name}`, '--file takes a readable file');
    if (facts.size > PROMPT_MAX_BYTES) throw tooLong();
    return decode(await readFile(path), name);
  }

  override async execute(): Promise<number> {
    const style = this.style('stderr');
    this.caller.lastWords(() => `${mark(style, 'failed')} interrupted: no task was queued`);
    // Whoever waits may wait for hours: the node command survives the hub, a shell's own path does not.
    if (this.wait || this.watch) this.caller.handOver?.();
    const who = this.who ?? (this.caller.env.KHLONE_WHO || undefined);
    if (who !== undefined) parseWho(who);
    const limitMs = this.limit === undefined ? undefined : durationMs(this.limit, '--limit');
    const timeoutMs = this.timeout === undefined ? undefined : durationMs(this.timeout, '--timeout');
    const prompt = await this.prompt();
    const place = await placeOf(this.app, this.caller, { zone: this.zone });
    const session = sessionFor(this.app, this.caller, place.binding, this.session);
    const sent = this.sync ? await this.sendEdits(place) : undefined;
    const isTold = !this.sync && !this.quiet && !this.json && !this.caller.repeated;
    const checking = isTold ? beginCheck(this.app, place) : undefined;
    const receipt = await dispatch(this.app, this.caller, place, {
      kind: this.kind,
      prompt,
      who,
      session,
      prioritize: this.prioritize,
      limitMs,
      tell: (receipt) => this.receiptLines(place, receipt, who).join('\n'),
      // The host was just waited for in vain.
      ...(sent?.kind === 'queued' && { withinMs: 0 }),
    });
    this.caller.lastWords(undefined);
    this.tellReceipt(place, receipt, who);
    if (checking) await this.tellUnsent(place, checking);
    if (!this.wait && !this.watch) return 0;
    return awaitTask(this.app, this.caller, place.binding, {
      task: receipt.id,
      answer: this.wait,
      progress: this.watch,
      timeoutMs,
      json: this.json,
      quiet: this.quiet,
      dispatched: true,
      ...(receipt.type === 'accepted' && { clone: receipt.answer.task.clone }),
    });
  }

  /** Patches go first; off line they wait in front of the task. */
  async sendEdits(place: Place): Promise<Sent> {
    const style = this.style('stderr');
    const sent = await syncFirst(this.app, this.caller, place, style);
    if (sent.kind === 'sent') for (const line of sent.lines) this.say(line);
    if (sent.kind === 'queued' && sent.waits) this.say(queuedLine(sent, place.binding.host, style));
    return sent;
  }

  /** Edits that the zone has not seen, where that is known in time. */
  async tellUnsent(place: Place, checking: Promise<number>): Promise<void> {
    const files = await unsentFiles(this.app, this.caller, place, checking);
    if (files === 0) return;
    const sign = mark(this.style('stderr'), 'attention');
    this.say(`${sign} ${counted(files, 'file')} not synced (khlone sync, or --sync)`);
  }

  tellReceipt(place: Place, receipt: Receipt, who: string | undefined): void {
    const waits = this.wait || this.watch;
    if (this.json && !waits) {
      const { id, type } = receipt;
      this.give(
        type === 'accepted'
          ? {
              task: id,
              state: receipt.answer.task.state,
              clone: receipt.answer.task.clone,
              zone: place.binding.address,
            }
          : { task: id, state: 'queued-here', zone: place.binding.address },
      );
      return;
    }
    if (this.quiet && !waits) this.caller.out(`${receipt.id}\n`);
    // A repeat after the hub died: what was printed stands already.
    if (this.caller.repeated) return;
    for (const line of this.receiptLines(place, receipt, who)) this.say(line);
  }

  receiptLines(place: Place, receipt: Receipt, who: string | undefined): string[] {
    return receiptLines(place, receipt, {
      who,
      zone: this.zone ?? (this.caller.env.KHLONE_ZONE || undefined),
      prioritize: this.prioritize,
      style: this.style('stderr'),
    });
  }
}

const tooLong = (): KhloneError =>
  new KhloneError(
    'too-large',
    `the prompt is over ${PROMPT_MAX_BYTES / 1024 / 1024} MB`,
    'put it into a file of the repository and name it',
  );

const decode = (bytes: Buffer, name: string): string => {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw new KhloneError('usage', `${name} is not UTF-8 text`, 'give text, or name the file in the prompt');
  }
};
