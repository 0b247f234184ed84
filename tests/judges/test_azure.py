"""Microsoft's own clients of Azure Resource Manager (azure-mgmt-kusto, azure-mgmt-resource, azure-identity) as users of our double of it."""

from __future__ import annotations

import json
import os
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
import requests
from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.identity import WorkloadIdentityCredential
from azure.mgmt.kusto import KustoManagementClient
from azure.mgmt.kusto.models import (
    AzureSku,
    AzureSkuName,
    AzureSkuTier,
    Cluster,
    ClusterCheckNameRequest,
    ClusterPrincipalAssignment,
    ClusterPrincipalProperties,
    ClusterPrincipalRole,
    ClusterProperties,
    ClusterUpdate,
    DatabasePrincipalAssignment,
    DatabasePrincipalProperties,
    DatabasePrincipalRole,
    Identity,
    IdentityType,
    Kind,
    PrincipalType,
    ProvisioningState,
    ReadWriteDatabase,
    ReadWriteDatabaseProperties,
    Reason,
    State,
)
from azure.mgmt.resource.resources import ResourceManagementClient
from azure.mgmt.resource.resources.models import ResourceGroup

from conftest import program

REGION = "eastus2"
GROUP = "judges"
SKU = AzureSku(name=AzureSkuName.STANDARD_L8_AS_V3, tier=AzureSkuTier.STANDARD, capacity=2)


@dataclass
class Azure:
    """The double, by what it says of itself, and Microsoft's clients of it."""

    said: dict[str, Any]
    subscription: str
    kusto: KustoManagementClient
    resources: ResourceManagementClient


@contextmanager
def azure_double(broken_rule: str | None = None) -> Iterator[dict[str, Any]]:
    """Our double in a process of its own; yields what it says of itself. It must have seen nothing that Azure's rules forbid but `broken_rule`."""
    # A cluster is created for so long that one sees it, on a busy machine too.
    command = [str(program("azure-double")), "--create-seconds", "10"]
    # Where `make azure` wants what the SDK says, and what is answered, for the judges of exchanges.
    if recording := os.environ.get("AZURE_RECORDING"):
        command += ["--record", recording]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdin and process.stdout
        yield json.loads(process.stdout.readline())
        _, violations = process.communicate(timeout=60)
        expected = (0, "") if broken_rule is None else (1, f"{broken_rule}\n")
        assert (process.returncode, violations) == expected
    finally:
        process.kill()
        process.wait(timeout=60)


def subscription_of(said: dict[str, Any]) -> str:
    """As the instance metadata service tells it."""
    url = f"{said['imds']}/metadata/instance?api-version=2021-02-01"
    return requests.get(url, headers={"Metadata": "true"}, timeout=60).json()["compute"]["subscriptionId"]


@pytest.fixture(scope="module")
def azure() -> Iterator[Azure]:
    with azure_double() as said:
        environment = said["environment"]
        # Entra's other hosts are asked which authorities there are, unless that is switched off.
        credential = WorkloadIdentityCredential(
            tenant_id=environment["AZURE_TENANT_ID"],
            client_id=environment["AZURE_CLIENT_ID"],
            token_file_path=environment["AZURE_FEDERATED_TOKEN_FILE"],
            authority=environment["AZURE_AUTHORITY_HOST"],
            disable_instance_discovery=True,
            connection_verify=said["ca"],
        )
        subscription = subscription_of(said)
        options: dict[str, Any] = {"base_url": said["arm"], "connection_verify": said["ca"], "polling_interval": 1}
        with (
            credential,
            KustoManagementClient(credential, subscription, **options) as kusto,
            ResourceManagementClient(credential, subscription, **options) as resources,
        ):
            resources.providers.register("Microsoft.Kusto")
            deadline = time.monotonic() + 60
            while resources.providers.get("Microsoft.Kusto").registration_state != "Registered":
                assert time.monotonic() < deadline
                time.sleep(0.2)
            resources.resource_groups.create_or_update(GROUP, ResourceGroup(location=REGION))
            yield Azure(said, subscription, kusto, resources)


@pytest.fixture(scope="module")
def cluster(azure: Azure) -> str:
    """The name of a cluster that runs, with an identity of its own."""
    name = f"judge{uuid.uuid4().hex[:8]}"
    wanted = Cluster(
        location=REGION,
        sku=SKU,
        identity=Identity(type=IdentityType.SYSTEM_ASSIGNED),
        properties=ClusterProperties(enable_streaming_ingest=True),
        tags={"owner": "judges"},
    )
    created = azure.kusto.clusters.begin_create_or_update(GROUP, name, wanted, match_condition=MatchConditions.IfMissing)
    # While it is created, it says so.
    assert azure.kusto.clusters.get(GROUP, name).properties.state is State.CREATING
    assert created.result(timeout=120).properties.provisioning_state is ProvisioningState.SUCCEEDED
    return name


@pytest.fixture(scope="module")
def database(azure: Azure, cluster: str) -> str:
    """The name of a database of the cluster."""
    wanted = ReadWriteDatabase(location=REGION, properties=ReadWriteDatabaseProperties(soft_delete_period=timedelta(days=30)))
    # The constructor of 4.0.0 forgets it, though it is required.
    wanted.kind = Kind.READ_WRITE
    created = azure.kusto.databases.begin_create_or_update(GROUP, cluster, "Metrics", wanted).result(timeout=120)
    assert created.properties.provisioning_state is ProvisioningState.SUCCEEDED
    return "Metrics"


def code_of(error: HttpResponseError) -> tuple[int | None, str | None]:
    return error.status_code, error.error and error.error.code


def test_the_provider_is_registered(azure: Azure) -> None:
    provider = azure.resources.providers.get("Microsoft.Kusto")
    assert (provider.namespace, provider.registration_state) == ("Microsoft.Kusto", "Registered")
    assert "clusters" in [kind.resource_type for kind in provider.resource_types]


def test_a_resource_group_is_found_by_its_name(azure: Azure) -> None:
    assert azure.resources.resource_groups.check_existence(GROUP)
    assert not azure.resources.resource_groups.check_existence("nobody-made-it")
    group = azure.resources.resource_groups.get(GROUP.upper())
    assert (group.name, group.location, group.properties.provisioning_state) == (GROUP, REGION, "Succeeded")
    with pytest.raises(ResourceNotFoundError) as caught:
        azure.resources.resource_groups.get("nobody-made-it")
    assert code_of(caught.value) == (404, "ResourceGroupNotFound")


def test_a_region_lists_its_skus_page_by_page(azure: Azure) -> None:
    pages = [list(page) for page in azure.kusto.skus.list(REGION).by_page()]
    offers = [offer for page in pages for offer in page]
    assert len(pages) > 1
    assert len({offer.name for offer in offers}) == len(offers)
    offer = next(offer for offer in offers if offer.name == SKU.name)
    assert (offer.resource_type, offer.tier, offer.restrictions) == ("clusters", "Standard", [])
    # Display names, not those that a cluster is asked for with.
    assert offer.locations == ["East US 2"] == [info.location for info in offer.location_info]


def test_a_name_is_free_taken_or_wrong(azure: Azure, cluster: str) -> None:
    def check(name: str) -> tuple[bool | None, Any]:
        result = azure.kusto.clusters.check_name_availability(REGION, ClusterCheckNameRequest(name=name, type="Microsoft.Kusto/clusters"))
        return result.name_available, result.reason

    assert check("nobodyhasit") == (True, None)
    assert check(cluster) == (False, Reason.ALREADY_EXISTS)
    assert check("1-Wrong") == (False, Reason.INVALID)


def test_a_created_cluster_runs_as_it_was_asked_for(azure: Azure, cluster: str) -> None:
    found = azure.kusto.clusters.get(GROUP, cluster)
    properties = found.properties
    assert (properties.state, properties.provisioning_state) == (State.RUNNING, ProvisioningState.SUCCEEDED)
    assert properties.uri == f"https://{cluster}.{REGION}.kusto.windows.net"
    assert properties.data_ingestion_uri == f"https://ingest-{cluster}.{REGION}.kusto.windows.net"
    assert properties.enable_streaming_ingest is True
    assert (found.name, found.location, found.tags) == (cluster, "East US 2", {"owner": "judges"})
    assert found.id == f"/subscriptions/{azure.subscription}/resourceGroups/{GROUP}/providers/Microsoft.Kusto/clusters/{cluster}"
    assert found.identity.type is IdentityType.SYSTEM_ASSIGNED
    assert uuid.UUID(found.identity.principal_id) and found.identity.tenant_id == azure.said["environment"]["AZURE_TENANT_ID"]
    assert cluster in [one.name for one in azure.kusto.clusters.list_by_resource_group(GROUP)]


def test_a_second_create_does_not_overwrite(azure: Azure, cluster: str) -> None:
    with pytest.raises(ResourceExistsError) as caught:
        wanted = Cluster(location=REGION, sku=SKU, properties=ClusterProperties())
        azure.kusto.clusters.begin_create_or_update(GROUP, cluster, wanted, match_condition=MatchConditions.IfMissing)
    assert caught.value.status_code == 412


def test_a_sku_is_changed_and_the_rest_stays(azure: Azure, cluster: str) -> None:
    larger = AzureSku(name=AzureSkuName.STANDARD_L16_AS_V3, tier=AzureSkuTier.STANDARD, capacity=3)
    before = azure.kusto.clusters.get(GROUP, cluster)
    after = azure.kusto.clusters.begin_update(GROUP, cluster, ClusterUpdate(sku=larger)).result(timeout=120)
    assert (after.sku.name, after.sku.capacity) == (AzureSkuName.STANDARD_L16_AS_V3, 3)
    assert (after.properties.state, after.properties.provisioning_state) == (State.RUNNING, ProvisioningState.SUCCEEDED)
    assert (after.properties.enable_streaming_ingest, after.tags, after.etag != before.etag) == (True, before.tags, True)


@pytest.mark.parametrize(
    ("sku", "code"),
    [
        # Azure has it, the double's region has not.
        (AzureSku(name=AzureSkuName.STANDARD_D14_V2, tier=AzureSkuTier.STANDARD, capacity=2), "SkuNotAvailable"),
        (AzureSku(name=SKU.name, tier=AzureSkuTier.STANDARD, capacity=1), "InvalidSkuCapacity"),
    ],
)
def test_a_sku_that_is_not_to_be_had_is_an_error(azure: Azure, sku: AzureSku, code: str) -> None:
    with pytest.raises(HttpResponseError) as caught:
        azure.kusto.clusters.begin_create_or_update(GROUP, "judgenosku", Cluster(location=REGION, sku=sku, properties=ClusterProperties()))
    assert code_of(caught.value) == (400, code)
    with pytest.raises(ResourceNotFoundError) as absent:
        azure.kusto.clusters.get(GROUP, "judgenosku")
    assert code_of(absent.value) == (404, "ResourceNotFound")


def test_a_database_is_created_read_and_listed(azure: Azure, cluster: str, database: str) -> None:
    found = azure.kusto.databases.get(GROUP, cluster, database)
    assert isinstance(found, ReadWriteDatabase)
    assert (found.name, found.location) == (f"{cluster}/{database}", "East US 2")
    assert (found.properties.soft_delete_period, found.properties.provisioning_state) == (timedelta(days=30), ProvisioningState.SUCCEEDED)
    assert [one.name for one in azure.kusto.databases.list_by_cluster(GROUP, cluster)] == [found.name]
    with pytest.raises(ResourceNotFoundError) as caught:
        azure.kusto.databases.get(GROUP, cluster, "Nothing")
    assert code_of(caught.value) == (404, "ResourceNotFound")


def test_a_principal_is_given_a_role_on_the_cluster(azure: Azure, cluster: str) -> None:
    principal = str(uuid.uuid4())
    wanted = ClusterPrincipalAssignment(
        properties=ClusterPrincipalProperties(
            principal_id=principal, role=ClusterPrincipalRole.ALL_DATABASES_VIEWER, principal_type=PrincipalType.APP
        )
    )
    assignments = azure.kusto.cluster_principal_assignments
    created = assignments.begin_create_or_update(GROUP, cluster, "viewer", wanted).result(timeout=120)
    assert created.properties.provisioning_state is ProvisioningState.SUCCEEDED
    (listed,) = assignments.list(GROUP, cluster)
    assert (listed.name, listed.properties.principal_id) == (f"{cluster}/viewer", principal)
    assert (listed.properties.role, listed.properties.principal_type) == (ClusterPrincipalRole.ALL_DATABASES_VIEWER, PrincipalType.APP)


def test_a_principal_is_given_a_role_on_a_database(azure: Azure, cluster: str, database: str) -> None:
    principal = str(uuid.uuid4())
    wanted = DatabasePrincipalAssignment(
        properties=DatabasePrincipalProperties(principal_id=principal, role=DatabasePrincipalRole.INGESTOR, principal_type=PrincipalType.APP)
    )
    assignments = azure.kusto.database_principal_assignments
    created = assignments.begin_create_or_update(GROUP, cluster, database, "ingestor", wanted).result(timeout=120)
    assert created.properties.provisioning_state is ProvisioningState.SUCCEEDED
    (listed,) = assignments.list(GROUP, cluster, database)
    assert (listed.name, listed.properties.principal_id) == (f"{cluster}/{database}/ingestor", principal)
    assert (listed.properties.role, listed.properties.principal_type) == (DatabasePrincipalRole.INGESTOR, PrincipalType.APP)


def test_a_cluster_is_stopped_and_started(azure: Azure, cluster: str) -> None:
    azure.kusto.clusters.begin_stop(GROUP, cluster).result(timeout=120)
    assert azure.kusto.clusters.get(GROUP, cluster).properties.state is State.STOPPED
    azure.kusto.clusters.begin_start(GROUP, cluster).result(timeout=120)
    assert azure.kusto.clusters.get(GROUP, cluster).properties.state is State.RUNNING


def test_a_call_without_a_token_is_refused_and_reported() -> None:
    path = f"/subscriptions/{uuid.uuid4()}/resourcegroups/{GROUP}"
    with azure_double(f"GET {path}: Authentication failed. The 'Authorization' header is missing.") as said:
        answer = requests.get(f"{said['arm']}{path}?api-version=2025-04-01", verify=said["ca"], timeout=60)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "AuthenticationFailed")
