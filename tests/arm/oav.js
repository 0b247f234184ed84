'use strict';
// Has recorded exchanges with Azure Resource Manager judged by oav, with which Microsoft checks its own services against their specifications.
//
//   node oav.js RECORDING...     exit code 0: something was judged and nothing is wrong; 1: something is wrong; 2: oav itself is not to be trusted
//   node oav.js --controls
//
// Only Microsoft.Kusto is judged. oav never complains of another api-version's properties: it knows this one alone.

const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { LiveValidator } = require('oav');

const { run } = require('./judging.js');

const SPECIFICATION = path.join(__dirname, 'kusto-2025-02-14.swagger2-derived.json');

/** Registering Microsoft.Kusto, and asking whether it is, is Microsoft.Resources' business. */
const isJudged = (pathname) => /\/providers\/Microsoft\.Kusto\/(?!(un)?register$)./i.test(pathname);

/** The specification, in oav's ways and stricter: what is open for Azure's next version is none of our business; an error has a code and a message. */
function specification() {
  const closed = JSON.parse(fs.readFileSync(SPECIFICATION, 'utf8'), (key, value) => (key === 'modelAsString' ? false : value));
  // Of {"allOf": [{"$ref"}], "readOnly"} oav forgets what is referred to, and of {"$ref", "readOnly"} the rest.
  for (const { properties } of Object.values(closed.definitions)) {
    for (const [name, { allOf, readOnly }] of Object.entries(properties ?? {})) {
      if (allOf) properties[name] = { ...closed.definitions[allOf[0].$ref.split('/').pop()], readOnly };
    }
  }
  closed.definitions.ErrorResponse.required = ['error'];
  closed.definitions.ErrorDetail.required = ['code', 'message'];
  // oav compares the query of a path with a query in lower case.
  const paths = Object.entries(closed.paths).map(([name, operations]) => [name.replace(/\?.*/, (query) => query.toLowerCase()), operations]);
  return { ...closed, paths: Object.fromEntries(paths) };
}

/** A validator of `specification()`. oav reads files only. */
async function validator() {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'oav-'));
  try {
    const file = path.join(directory, 'kusto.json');
    fs.writeFileSync(file, JSON.stringify(specification()));
    const options = { swaggerPaths: [file], directory, isArmCall: true, loadValidatorInBackground: false, loadValidatorInInitialize: true };
    const loaded = new LiveValidator(options, () => {});
    await loaded.initialize();
    return loaded;
  } finally {
    fs.rmSync(directory, { recursive: true });
  }
}

/** What oav says of one side. Its answer for a request that it cannot place is an exception. */
function complaints(side, { errors, runtimeException }) {
  if (runtimeException) return [{ side, what: `${runtimeException.code} ${runtimeException.message}` }];
  return errors.map(({ code, message, pathsInPayload }) => ({ side, what: `${code} ${message} at ${pathsInPayload.join(', ')}` }));
}

async function main() {
  const oav = await validator();
  return run('oav', isJudged, async ({ request, response }) => {
    const liveResponse = { ...response, statusCode: String(response.statusCode) };
    const result = await oav.validateLiveRequestResponse({ liveRequest: request, liveResponse });
    if (result.runtimeException) throw new Error(`oav does not read this exchange: ${result.runtimeException.message}`);
    const asked = complaints('request', result.requestValidationResult);
    // Of an answer to a request that it cannot place, oav says the same again.
    return result.requestValidationResult.runtimeException ? asked : [...asked, ...complaints('response', result.responseValidationResult)];
  });
}

main().then((code) => {
  process.exitCode = code;
});
