/** A text with conflict markers as a person wants to see it at a terminal: the conflicts, not the file around them. */

const AROUND_LINES = 3;

/** Whether each line lies between an opening and a closing marker, the markers too. */
const inConflict = (lines: readonly string[], markerSize: number): boolean[] => {
  let inside = false;
  return lines.map((line) => {
    if (line.startsWith('<'.repeat(markerSize))) inside = true;
    const was = inside;
    if (line.startsWith('>'.repeat(markerSize))) inside = false;
    return was;
  });
};

/** The conflicts with three lines around each; instead of what is left out, a line that counts it. */
export const nearConflicts = (text: string, markerSize: number): string => {
  const lines = text.replace(/\n$/u, '').split('\n');
  const conflict = inConflict(lines, markerSize);
  const shown = lines.map((_, at) =>
    conflict.slice(Math.max(0, at - AROUND_LINES), at + AROUND_LINES + 1).includes(true),
  );
  const told: string[] = [];
  for (let at = 0; at < lines.length; ) {
    const next = shown.indexOf(true, at);
    const until = next < 0 ? lines.length : next;
    // A line that is left out alone takes no less room when it is counted.
    if (until - at > 1) told.push(`… ${until - at} lines`);
    else told.push(...lines.slice(at, until));
    const end = next < 0 ? -1 : shown.indexOf(false, next);
    const stop = next < 0 ? lines.length : end < 0 ? lines.length : end;
    told.push(...lines.slice(until, stop));
    at = stop;
  }
  return `${told.join('\n')}\n`;
};
