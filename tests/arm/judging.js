'use strict';
// What the judges of recorded exchanges share: what is handed to them, their controls, and the report.
//
// A recording has an exchange a line: {"request": {"method", "url", "headers": {}, "body"}, "response": {"statusCode", "headers": {}, "body"}}. Bodies are
// JSON values; a response that never came is null.

const fs = require('node:fs');
const { parseArgs } = require('node:util');

const { good, bad, failure } = require('./controls.js');

const contentType = (message) => Object.entries(message.headers ?? {}).find(([name]) => name.toLowerCase() === 'content-type')?.[1] ?? '';

/** What a gateway in front of Azure says, and what is lost on the way, is not Azure's to answer for: an answer that is right stands in its place. */
function withAnswer({ request, response }) {
  const isAzures = response && (response.statusCode < 500 || /json/.test(contentType(response)));
  return structuredClone({ request, response: isAzures ? response : failure(500, 'InternalServerError') });
}

const pathOf = ({ url }) => new URL(url, 'https://management.azure.com').pathname;

/** A path without the names in it: every other part of a path in Azure is one. */
const withoutNames = (path) => path.replace(/\/(\w+)\/[^/]+/g, '/$1/*');

function* recorded(files) {
  for (const file of files) {
    for (const [index, line] of fs.readFileSync(file, 'utf8').split('\n').entries()) {
      if (line.trim()) yield [`${file}:${index + 1}`, JSON.parse(line)];
    }
  }
}

/** What the judge says of the controls that it should not; empty when it can be trusted. */
async function wrongControls(judge) {
  const wrong = [];
  for (const [name, exchange] of Object.entries(good)) {
    const complaints = await judge(withAnswer(exchange));
    for (const { side, what } of complaints) wrong.push(`control "${name}": the ${side} is right, but: ${what}`);
  }
  for (const [name, [side, reason, exchange]] of Object.entries(bad)) {
    const complaints = await judge(withAnswer(exchange));
    if (complaints.length === 0) wrong.push(`control "${name}": the ${side} is wrong, and nothing was said`);
    const others = complaints.filter((complaint) => complaint.side !== side || !reason.test(complaint.what));
    for (const other of others) wrong.push(`control "${name}": the ${side} is wrong, but of the ${other.side} was said: ${other.what}`);
  }
  return wrong;
}

/**
 * The judge `name` on its controls, then on the recordings that the command line names. `judge` takes an exchange and promises what is wrong with it:
 * [{side: "request"|"response", what: string}]. `isJudged` says which paths are its business. Promises the exit code.
 */
async function run(name, isJudged, judge) {
  const { values, positionals } = parseArgs({ allowPositionals: true, options: { controls: { type: 'boolean' } } });
  if (positionals.length === 0 && !values.controls) {
    console.error(`${name}: say which recordings to judge, or --controls to judge the controls alone`);
    return 2;
  }
  const wrong = await wrongControls(judge);
  for (const line of wrong) console.log(`${name}: ${line}`);
  if (wrong.length > 0) return 2;
  console.log(`${name}: ${Object.keys(good).length} good and ${Object.keys(bad).length} bad controls came out right`);
  if (values.controls && positionals.length === 0) return 0;

  const counts = { judged: 0, wrong: 0, others: 0 };
  const distinct = new Map();
  for (const [where, exchange] of recorded(positionals)) {
    if (!isJudged(pathOf(exchange.request))) {
      counts.others += 1;
      continue;
    }
    const complaints = await judge(withAnswer(exchange));
    counts.judged += 1;
    counts.wrong += complaints.length > 0 ? 1 : 0;
    for (const { side, what } of complaints) {
      const key = JSON.stringify([exchange.request.method, withoutNames(pathOf(exchange.request)), side, what]);
      if (!distinct.has(key)) distinct.set(key, { exchange, side, what, where, times: 0 });
      distinct.get(key).times += 1;
    }
  }
  for (const { exchange, side, what, where, times } of distinct.values()) {
    const status = side === 'response' ? ` ${exchange.response.statusCode}` : '';
    const reason = what.length > 300 ? `${what.slice(0, 300)} ...` : what;
    console.log(`${name}: ${exchange.request.method} ${pathOf(exchange.request)} ${side}${status}: ${reason} (${times} in all, first ${where})`);
  }
  console.log(`${name}: ${counts.judged} exchanges judged, ${counts.wrong} wrong in ${distinct.size} ways, ${counts.others} not judged`);
  return counts.judged > 0 && counts.wrong === 0 ? 0 : 1;
}

module.exports = { run };
