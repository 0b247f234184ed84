'use strict';
// Stoplight's Prism as a proxy in front of what answers for Azure Resource Manager: 422 for a request and 500 for a response that the specification does
// not allow, everything else as it came.
//
//   node prism.js UPSTREAM_URL [PORT]     on a free port unless one is given; prints {"url"} when it is ready, and ends when its input does
//
// An https upstream with a test CA needs NODE_EXTRA_CA_CERTS. Prism itself speaks plain http, and compares paths with their case.
// Clients that follow `Location` of an operation, and not `Azure-AsyncOperation`, are for prism-recordings.js: as a proxy Prism takes the two for one.

const fs = require('node:fs');
const path = require('node:path');
const { createLogger } = require('@stoplight/prism-core');
const { getHttpOperationsFromSpec } = require('@stoplight/prism-http');
const { createServer } = require('@stoplight/prism-http-server');

const SPECIFICATION = path.join(__dirname, 'arm-subset.strict.openapi.json');

// Prism finds no operation by its query: what Azure tells by this one.
const LOCATED = '?operationResultResponseType=Location';

/** Such a path with a path of its own, for who asks Prism in place of the client. */
const locatedPath = (pathname, search) => (search.includes(LOCATED.slice(1)) ? `${pathname}/located` : pathname);

/** The specification, in Prism's ways and stricter: an error has a code and a message. */
function specification() {
  const document = JSON.parse(fs.readFileSync(SPECIFICATION, 'utf8'));
  const { schemas } = document.components;
  schemas.ErrorResponse.required = ['error'];
  schemas.ErrorDetail.required = ['code', 'message'];
  // Null takes a user-assigned identity away.
  const { $ref } = schemas.Identity.properties.userAssignedIdentities.additionalProperties;
  schemas[$ref.split('/').pop()].nullable = true;
  const apart = ([name, operations]) => [name.endsWith(LOCATED) ? locatedPath(name.slice(0, -LOCATED.length), LOCATED) : name, operations];
  return { ...document, paths: Object.fromEntries(Object.entries(document.paths).map(apart)) };
}

/** Promises the proxy: `url`, and `close()`. */
async function start(upstream, port = 0) {
  const operations = await getHttpOperationsFromSpec(specification());
  const config = { isProxy: true, upstream: new URL(upstream), validateRequest: true, validateResponse: true, checkSecurity: true, errors: true, mock: {} };
  const server = createServer(operations, { cors: false, config, components: { logger: createLogger('prism', { level: 'silent' }) } });
  return { url: await server.listen(port, '127.0.0.1'), close: () => server.close() };
}

async function main([upstream, port]) {
  const { url, close } = await start(upstream, Number(port ?? 0));
  console.log(JSON.stringify({ url }));
  process.stdin.resume().on('end', close);
}

if (require.main === module) main(process.argv.slice(2));

module.exports = { start, locatedPath };
