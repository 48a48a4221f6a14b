/** What git checks of objects that come from elsewhere. */

/** Old repositories hold sloppy names, times and modes that harm nobody; hostile paths stay refused. */
const TOLERATED = [
  ...['badDate', 'badDateOverflow', 'badTimezone', 'zeroPaddedDate', 'missingSpaceBeforeDate'],
  ...['badEmail', 'badName', 'missingEmail', 'missingNameBeforeEmail', 'missingSpaceBeforeEmail'],
  ...['zeroPaddedFilemode', 'badFilemode', 'nulInCommit', 'multipleAuthors'],
];

/** For `git index-pack`. */
export const STRICT = `--strict=${TOLERATED.map((id) => `${id}=ignore`).join(',')}`;

/** The same for `git fetch`. */
export const STRICT_FETCH = [
  ...['fetch.fsckObjects=true', ...TOLERATED.map((id) => `fetch.fsck.${id}=ignore`)].flatMap((one) => [
    '-c',
    one,
  ]),
];
