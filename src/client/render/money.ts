/** US dollars as a person reads them: what costs less than a cent did cost something. */
export const dollars = (usd: number): string => (usd > 0 && usd < 0.005 ? '<$0.01' : `$${usd.toFixed(2)}`);
