import { readFileSync } from 'node:fs';

/**
 * Prints the last line of scripts/test from vitest's JSON report: `N passed, N failed`, then skipped ones if any.
 * Usage: count.ts REPORT RUNNER_STATUS. Exits 1 unless the runner ended well, something passed and nothing failed.
 */

type Report = {
  numPassedTests: number;
  numPendingTests: number;
  numTodoTests: number;
  numFailedTests: number;
  testResults: { status: string; assertionResults: unknown[] }[];
};

const [path = '', runnerStatus = '1'] = process.argv.slice(2);

const read = (): Report | undefined => {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as Report;
  } catch {
    return undefined;
  }
};

const main = (): void => {
  const report = read();
  const runnerFailed = runnerStatus !== '0';
  if (report === undefined) {
    console.log(`✗ the test runner left no report (exit ${runnerStatus}; 124 is its deadline)`);
    console.log('0 passed, 1 failed');
    process.exitCode = 1;
    return;
  }
  // A file that breaks while it is loaded holds no test that could be counted as failed.
  const brokenFiles = report.testResults.filter(
    ({ status, assertionResults }) => status === 'failed' && assertionResults.length === 0,
  ).length;
  // An error outside of any test fails the run without failing a test.
  const failedTests = report.numFailedTests + brokenFiles;
  const failed = failedTests === 0 && runnerFailed ? 1 : failedTests;
  const skipped = report.numPendingTests + report.numTodoTests;
  console.log(
    `${report.numPassedTests} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`,
  );
  process.exitCode = failed > 0 || report.numPassedTests === 0 ? 1 : 0;
};

main();
