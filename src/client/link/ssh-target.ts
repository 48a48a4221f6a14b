/** Asks the person at the terminal of the command that needs the link; undefined: there is no terminal. */
export type Asker = { ask(question: { text: string; secret: boolean }): Promise<string> } | undefined;

/** A host as the user wrote it, with the caller's surroundings: the hub's own environment plays no part. */
export type SshTarget = {
  /** A Host of ssh_config, or user@host:port. */
  host: string;
  /** The caller's SSH_AUTH_SOCK. */
  sshAuthSock?: string;
  /** KHLONE_HOME of this machine. */
  home: string;
  env: Record<string, string | undefined>;
};
