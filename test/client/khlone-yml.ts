import { parseSiteConfig } from '../../src/client/site-config-parse.ts';
import { KhloneError } from '../../src/protocol/error.ts';

/** Texts of a khlone.yml, as they are read or refused. */

export const parse = (text: string) => parseSiteConfig(text, 'khlone.yml');
/** The message of the refusal of a text. */
export const refusal = (text: string): string => {
  try {
    parse(text);
  } catch (error) {
    if (error instanceof KhloneError && error.code === 'config') return error.message;
    throw error;
  }
  throw new Error(`was accepted: ${JSON.stringify(text)}`);
};
