/** The yaml package behind a file of ours, so that it can be loaded when a person's configuration is really read. */
export { isMap, isScalar, parseDocument } from 'yaml';
