/**
 * Every bound of the wire, with its unit and its reason. A peer that goes over a bound is refused or cut off,
 * so no other file needs to guess how large a value from outside may be.
 */

const KIB = 1024;
const MIB = 1024 * KIB;

/** The protocol versions this build speaks; `hello` picks the highest one both sides share. */
export const PROTOCOL = { min: 1, max: 1 } as const;

/** Bytes of one control frame: a JSON-RPC object. Larger values travel as bodies, which have credit. */
export const CONTROL_FRAME_BYTES = 1 * MIB;
/** Bytes of one data frame: what a receiver must be ready to hold at once. */
export const DATA_FRAME_BYTES = 64 * KIB;
/** Bytes of the reason inside a reset frame: a short error object. */
export const RESET_FRAME_BYTES = 8 * KIB;
/** Levels of nested arrays and objects: readers above us recurse, JSON.parse does not. */
export const JSON_DEPTH = 64;
/** Characters of an error message on the wire: it becomes one line at a terminal. */
export const ERROR_MESSAGE_CHARS = 2_000;

/** Calls one side may have unanswered on one connection; the next one is refused with `rate-limited`. */
export const CALLS_IN_FLIGHT = 256;
/** Bodies one side may have open on one connection: what a stalled reader can make us hold is this × its window. */
export const BODIES_IN_FLIGHT = 256;
/** Bytes of control frames waiting for a duplex that does not drain. Over `refuse` our own calls are refused; over
 * `cut` even answers find no room, and the connection ends. */
export const CONTROL_QUEUE_BYTES = { refuse: 8 * MIB, cut: 16 * MIB } as const;

/** Bytes a body may be ahead of its reader, by class. Interactive: a screenful of redraws; bulk: 40 MB/s at 50 ms. */
export const WINDOW_BYTES = { interactive: 256 * KIB, bulk: 2 * MIB } as const;
/** Bytes of one slice of a body: the longest a key press waits for a bulk write that has begun. */
export const SLICE_BYTES = 16 * KIB;
/** Bytes read or received before the other side is told: below half of the smallest bulk bound, so nobody waits for ever. */
export const CREDIT_STEP_BYTES = 16 * KIB;
/** Bytes of bodies on the way before bulk waits: the range in which an adaptive bound may move. */
export const BULK_IN_FLIGHT_BYTES = { min: 32 * KIB, max: 512 * KIB } as const;
/** Pieces of a body that may lie unread before they are joined: a writer of single bytes must not cost an object each. */
export const UNREAD_PIECES = 256;
/** Bytes of one item of a subscription. */
export const ITEM_BYTES = 1 * MIB;

/** Milliseconds a call waits for its answer unless it says otherwise. Nothing long is a call: it is a subscription. */
export const CALL_DEADLINE_MS = 30_000;
/** Milliseconds for the first exchange of a connection. */
export const HELLO_DEADLINE_MS = 5_000;
/** Milliseconds to connect to a local socket. */
export const CONNECT_DEADLINE_MS = 2_000;
/** Milliseconds a closing connection may take to hand over its last frames. */
export const CLOSE_GRACE_MS = 1_000;
/** The longest delay a timer can hold; above it Node fires at once. */
export const TIMER_MAX_MS = 2 ** 31 - 1;

/** Bytes of one prompt: far above what a person writes, far below what a brain can read. */
export const PROMPT_MAX_BYTES = 4 * 1024 * 1024;
/** Bytes of a socket's path: macOS ends at 104 with its NUL, Linux at 108. */
export const SOCKET_PATH_BYTES = 100;
/** Characters of a role's or a brain's name. */
export const NAME_CHARS = 40;
/** Characters of a zone's address: each of org, repo and branch may be 200 and more. */
export const ADDRESS_CHARS = 1_000;
/** Characters of a path: what Linux takes. */
export const PATH_CHARS = 4_096;
/** Digits of a clone's index. */
export const INDEX_MAX = 999_999;
/** Milliseconds to wait for somebody else who is starting the same resident. */
export const START_LOCK_DEADLINE_MS = 10_000;
/** Milliseconds a new resident waits for an old one that is on its way out. */
export const LIFE_LOCK_DEADLINE_MS = 5_000;
