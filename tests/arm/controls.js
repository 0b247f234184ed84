'use strict';
// Exchanges of which it is known what a judge must say. Every judge here judges them first, so that one that judges nothing is noticed.

const SUBSCRIPTION = 'https://management.azure.com/subscriptions/11111111-1111-1111-1111-111111111111';
const KUSTO = `${SUBSCRIPTION}/providers/Microsoft.Kusto`;
const CLUSTER = `${SUBSCRIPTION}/resourceGroups/group1/providers/Microsoft.Kusto/clusters/cluster1`;
const DATABASE = `${CLUSTER}/databases/Metrics`;
const VERSION = 'api-version=2025-02-14';
const JSON_TYPE = { 'Content-Type': 'application/json; charset=utf-8' };

const sku = { name: 'Standard_L8as_v3', tier: 'Standard', capacity: 2 };
const wanted = { location: 'eastus2', sku, identity: { type: 'SystemAssigned' }, properties: { enableStreamingIngest: true } };
const cluster = {
  id: new URL(CLUSTER).pathname,
  name: 'cluster1',
  type: 'Microsoft.Kusto/Clusters',
  location: 'East US 2',
  sku,
  properties: { state: 'Creating', provisioningState: 'Creating', uri: 'https://cluster1.eastus2.kusto.windows.net', enableStreamingIngest: true },
};
const wantedDatabase = { location: 'eastus2', kind: 'ReadWrite', properties: { softDeletePeriod: 'P30D' } };
const database = {
  ...wantedDatabase,
  id: new URL(DATABASE).pathname,
  name: 'cluster1/Metrics',
  type: 'Microsoft.Kusto/Clusters/Databases',
  properties: { ...wantedDatabase.properties, provisioningState: 'Succeeded' },
};
const assignment = { properties: { principalId: '22222222-2222-2222-2222-222222222222', role: 'Ingestor', principalType: 'App' } };

const withoutIdentity = { type: 'SystemAssigned', userAssignedIdentities: { '/subscriptions/s/resourceGroups/g/providers/P/userAssignedIdentities/i': null } };

const without = (object, key) => Object.fromEntries(Object.entries(object).filter(([name]) => name !== key));

/** An answer; without a body it has no content type either. */
const answer = (statusCode, body, headers = {}) => ({ statusCode, headers: { ...(body && JSON_TYPE), ...headers }, body });
const failure = (statusCode, code, headers) => answer(statusCode, { error: { code, message: 'Said in a sentence.' } }, headers);
const exchange = (method, url, body, response) => ({ request: { method, url, headers: body ? JSON_TYPE : {}, body }, response });

const put = (body, response = answer(201, cluster)) => exchange('PUT', `${CLUSTER}?${VERSION}`, body, response);
const get = (response) => exchange('GET', `${CLUSTER}?${VERSION}`, undefined, response);
const operation = (query, response) => exchange('GET', `${KUSTO}/locations/eastus2/operationResults/o1?${VERSION}${query}`, undefined, response);
const later = { Location: `${KUSTO}/locations/eastus2/operationResults/o1?${VERSION}&operationResultResponseType=Location`, 'Retry-After': '1' };

/** To be let pass. */
const good = {
  'a cluster is created': put(wanted, answer(201, cluster, later)),
  'a cluster is read': get(answer(200, cluster)),
  'a cluster is absent': get(failure(404, 'ResourceNotFound')),
  'a call is throttled': get(failure(429, 'TooManyRequests', { 'Retry-After': '1' })),
  'the SKU is changed': exchange('PATCH', `${CLUSTER}?${VERSION}`, { sku }, answer(202, cluster, { 'Azure-AsyncOperation': 'https://a.invalid/o1' })),
  'a user-assigned identity is taken away': exchange('PATCH', `${CLUSTER}?${VERSION}`, { identity: withoutIdentity }, answer(200, cluster)),
  'a cluster is started': exchange('POST', `${CLUSTER}/start?${VERSION}`, undefined, answer(202, undefined, later)),
  'a database is created': exchange('PUT', `${DATABASE}?${VERSION}`, wantedDatabase, answer(201, database)),
  'a principal is assigned': exchange('PUT', `${DATABASE}/principalAssignments/p1?${VERSION}`, assignment, answer(200, assignment)),
  'SKUs are listed': exchange('GET', `${KUSTO}/locations/eastus2/skus?${VERSION}`, undefined, answer(200, { value: [{ locations: ['East US 2'] }] })),
  'an operation has failed': operation('', answer(200, { id: '/o1', name: 'o1', status: 'Failed', error: { code: 'A', message: 'B' } })),
  'an operation goes on': operation('&operationResultResponseType=Location', answer(202, undefined)),
  'an operation is over': operation('&operationResultResponseType=Location', answer(200, undefined)),
};

/** To be refused, for a reason that names what the expression does. */
const bad = {
  'PUT without sku': ['request', /\bsku\b/, put(without(wanted, 'sku'))],
  'PUT without a body': ['request', /body/i, put(undefined)],
  'an unknown property asked for': ['request', /colour|additional|unevaluated/, put({ ...wanted, colour: 'red' })],
  'an unknown property within asked for': ['request', /colour|additional|unevaluated/, put({ ...wanted, properties: { colour: 'red' } })],
  'an unknown tier asked for': ['request', /tier/, put({ ...wanted, sku: { ...sku, tier: 'Gold' } })],
  'an unknown SKU asked for': ['request', /name/, put({ ...wanted, sku: { ...sku, name: 'Standard_L8as_v0' } })],
  'a read-only property asked for': ['request', /state/, put({ ...wanted, properties: { state: 'Running' } })],
  'a database of no kind': ['request', /kind|oneOf/, exchange('PUT', `${DATABASE}?${VERSION}`, without(wantedDatabase, 'kind'), answer(201, database))],
  'another version': ['request', /api-version/, exchange('GET', `${CLUSTER}?api-version=2024-04-13`, undefined, answer(200, cluster))],
  'no version': ['request', /api-version/, exchange('GET', CLUSTER, undefined, answer(200, cluster))],
  'a path of no operation': ['request', /./, exchange('POST', `${CLUSTER}/frobnicate?${VERSION}`, undefined, answer(200, cluster))],
  'no sku answered': ['response', /\bsku\b/, get(answer(200, without(cluster, 'sku')))],
  'an unknown property answered': ['response', /colour|additional|unevaluated/, get(answer(200, { ...cluster, colour: 'red' }))],
  'an unknown state answered': ['response', /state/, get(answer(200, { ...cluster, properties: { state: 'Odd' } }))],
  'a number for a text answered': ['response', /uri/, get(answer(200, { ...cluster, properties: { uri: 5 } }))],
  'an unknown state of an operation answered': ['response', /status/, operation('', answer(200, { id: '/o1', name: 'o1', status: 'Odd' }))],
  'no body answered': ['response', /./, get(answer(200, undefined))],
  'an unknown status answered': ['response', /./, get(answer(202, cluster))],
  'an error without a code answered': ['response', /code/, get(answer(404, { error: { message: 'Not there.' } }))],
  'an error of another shape answered': ['response', /error|message|additional|unevaluated/, get(answer(404, { message: 'Not there.' }))],
};

module.exports = { good, bad, failure };
