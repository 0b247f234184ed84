"""The official Python SDK (azure-kusto-data) as a user of our server: queries, parameters, management, streaming ingestion, streamed results, errors."""

from __future__ import annotations

import gzip
import io
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import requests
from azure.kusto.data import ClientRequestProperties, KustoClient
from azure.kusto.data.data_format import DataFormat
from azure.kusto.data.exceptions import KustoApiError, KustoMultiApiError, KustoServiceError
from azure.kusto.data.response import KustoResponseDataSetV1

from conftest import kusto_local

DATABASE = "Sdk"

EVERY_TYPE = """
datatable(b:bool, d:datetime, e:decimal, y:dynamic, g:guid, i:int, l:long, r:real, s:string, t:timespan) [
    true, datetime(2025-01-02T03:04:05.1234567Z), decimal(1.50), dynamic({"a": [1, "x"]}), guid(00000000-0000-0000-0000-0000000000ff), 7, 9007199254740993,
        0.5, 'text', time(1.02:03:04.5),
    bool(null), datetime(null), decimal(null), dynamic(null), guid(null), int(null), long(null), real(null), '', timespan(null)]
"""
EVERY_VALUE = [
    True,
    datetime(2025, 1, 2, 3, 4, 5, 123456, UTC),
    Decimal("1.5"),
    {"a": [1, "x"]},
    "00000000-0000-0000-0000-0000000000ff",
    7,
    9007199254740993,
    0.5,
    "text",
    timedelta(days=1, hours=2, minutes=3, seconds=4.5),
]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with kusto_local(DATABASE) as url:
        yield url


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[KustoClient]:
    with KustoClient(url) as client:
        yield client


@pytest.fixture
def table(client: KustoClient) -> Iterator[str]:
    """A table of its own for each test that writes."""
    name = f"T{uuid.uuid4().hex}"
    client.execute_mgmt(DATABASE, f".create table {name} (At:datetime, Host:string, Value:real, Tags:dynamic)")
    client.execute_mgmt(DATABASE, f".alter table {name} policy streamingingestion enable")
    yield name
    client.execute_mgmt(DATABASE, f".drop table {name}")


def rows(client: KustoClient, text: str, properties: ClientRequestProperties | None = None) -> list[list[Any]]:
    return [row.to_list() for row in client.execute_query(DATABASE, text, properties).primary_results[0]]


def test_a_query_returns_every_type_as_the_sdk_reads_it(client: KustoClient) -> None:
    values, nulls = rows(client, EVERY_TYPE)
    assert values == EVERY_VALUE
    assert nulls == [None] * 8 + ["", None]


def test_a_v2_answer_names_its_tables_and_reports_no_error(client: KustoClient) -> None:
    answer = client.execute_query(DATABASE, "print a = 1")
    assert [t.table_kind.name for t in answer.tables] == ["QueryProperties", "PrimaryResult", "QueryCompletionInformation"]
    assert answer.errors_count == 0 and answer.get_exceptions() == []
    assert [(c.column_name, c.column_type) for c in answer.primary_results[0].columns] == [("a", "long")]


def test_a_v1_answer_is_read_by_the_sdk(url: str) -> None:
    body = {"db": DATABASE, "csl": "print a = 1, b = 'x', d = datetime(2025-01-01), t = 1h"}
    answer = KustoResponseDataSetV1(requests.post(f"{url}/v1/rest/query", json=body, timeout=60).json())
    assert answer.primary_results[0][0].to_list() == [1, "x", datetime(2025, 1, 1, tzinfo=UTC), timedelta(hours=1)]
    assert answer.errors_count == 0


def test_parameters_are_values_and_never_text(client: KustoClient) -> None:
    properties = ClientRequestProperties()
    properties.set_parameter("name", "'x\\' | take 0 //'")
    properties.set_parameter("n", "41")
    properties.set_parameter("since", "datetime(2025-01-01)")
    text = "declare query_parameters(name:string, n:long, since:datetime, unset:long = 5); print name, n + 1, since, unset"
    assert rows(client, text, properties) == [["x' | take 0 //", 42, datetime(2025, 1, 1, tzinfo=UTC), 5]]


def test_options_are_accepted(client: KustoClient) -> None:
    properties = ClientRequestProperties()
    properties.set_option("servertimeout", timedelta(minutes=1))
    properties.set_option("request_readonly", True)
    properties.application = "judges"
    assert rows(client, "print 1", properties) == [[1]]


def test_management_commands_answer_as_tables(client: KustoClient, table: str) -> None:
    tables = client.execute_mgmt(DATABASE, f".show tables | where TableName == '{table}'").primary_results[0]
    assert [(row["TableName"], row["DatabaseName"]) for row in tables] == [(table, DATABASE)]
    schema = client.execute_mgmt(DATABASE, f".show table {table} cslschema").primary_results[0]
    assert schema[0]["Schema"] == "At:datetime,Host:string,Value:real,Tags:dynamic"


def test_execute_tells_commands_from_queries(client: KustoClient, table: str) -> None:
    assert client.execute(DATABASE, f"{table} | count").primary_results[0][0][0] == 0
    names = [row["TableName"] for row in client.execute(DATABASE, ".show tables").primary_results[0]]
    assert table in names


CSV = b'2025-01-01T00:00:00Z,h1,1.5,"{""a"":1}"\n2025-01-02T00:00:00Z,"h,2",,\n'


@pytest.mark.parametrize("data", [CSV, gzip.compress(CSV)], ids=["plain", "gzip"])
def test_streaming_ingestion_takes_csv(client: KustoClient, table: str, data: bytes) -> None:
    client.execute_streaming_ingest(DATABASE, table, io.BytesIO(data), None, DataFormat.CSV)
    expected = [[datetime(2025, 1, 1, tzinfo=UTC), "h1", 1.5, {"a": 1}], [datetime(2025, 1, 2, tzinfo=UTC), "h,2", None, None]]
    assert rows(client, f"{table} | sort by At asc") == expected


def test_streaming_ingestion_takes_json_with_a_mapping(client: KustoClient, table: str) -> None:
    mapping = '[{"column":"At","Properties":{"Path":"$.when"}},{"column":"Tags","Properties":{"Path":"$.tags"}},{"column":"Host","Properties":{"Path":"$.h"}}]'
    client.execute_mgmt(DATABASE, f".create table {table} ingestion json mapping 'm' '{mapping}'")
    data = b'{"when":"2025-01-01T00:00:00Z","h":"x","tags":{"a":[1]},"other":1}\n{"h":"y"}\n'
    client.execute_streaming_ingest(DATABASE, table, io.BytesIO(data), None, "json", mapping_name="m")
    expected = [["x", {"a": [1]}, datetime(2025, 1, 1, tzinfo=UTC)], ["y", None, None]]
    assert rows(client, f"{table} | sort by Host asc | project Host, Tags, At") == expected


def test_streaming_ingestion_without_the_policy_is_an_error(client: KustoClient, table: str) -> None:
    client.execute_mgmt(DATABASE, f".alter table {table} policy streamingingestion disable")
    with pytest.raises(KustoServiceError, match=r"[Ss]treaming ingestion policy is not enabled"):
        client.execute_streaming_ingest(DATABASE, table, io.BytesIO(CSV), None, DataFormat.CSV)


def test_streaming_ingestion_into_no_table_is_an_error(client: KustoClient) -> None:
    with pytest.raises(KustoServiceError):
        client.execute_streaming_ingest(DATABASE, "NoSuchTable", io.BytesIO(CSV), None, DataFormat.CSV)


def test_a_streamed_result_is_read_row_by_row(client: KustoClient) -> None:
    answer = client.execute_streaming_query(DATABASE, "range x from 1 to 1000 step 1")
    table = next(answer.iter_primary_results())
    assert [row[0] for row in table] == list(range(1, 1001))
    for _ in answer:
        pass
    assert answer.errors_count == 0


def test_a_semantic_error_is_one(client: KustoClient) -> None:
    with pytest.raises(KustoApiError) as caught:
        client.execute_query(DATABASE, "print a = 1 | project NoSuchColumn")
    error = caught.value.get_api_error()
    assert caught.value.is_semantic_error()
    assert (error.code, error.permanent) == ("General_BadRequest", True)
    assert "NoSuchColumn" in error.description
    assert caught.value.http_response.status_code == 400


def test_a_syntax_error_is_one(client: KustoClient) -> None:
    with pytest.raises(KustoApiError) as caught:
        client.execute_query(DATABASE, "print a = ")
    error = caught.value.get_api_error()
    assert not caught.value.is_semantic_error()
    assert error.permanent and "Syntax error" in error.description


def test_a_database_that_is_not_there_is_an_error(client: KustoClient) -> None:
    with pytest.raises(KustoServiceError):
        client.execute_query("NoSuchDatabase", "print 1")


def test_a_command_that_is_refused_is_an_error(client: KustoClient) -> None:
    for command in [".frobnicate x", ".drop table NoSuchTable", ".show tables | project NoSuchColumn"]:
        with pytest.raises(KustoServiceError):
            client.execute_mgmt(DATABASE, command)


def test_the_clients_request_id_comes_back(client: KustoClient, url: str) -> None:
    properties = ClientRequestProperties()
    properties.client_request_id = f"judges;{uuid.uuid4()}"
    with pytest.raises(KustoApiError) as caught:
        client.execute_query(DATABASE, "NoSuchTable", properties)
    assert caught.value.http_response.headers["x-ms-client-request-id"] == properties.client_request_id
    assert caught.value.get_api_error().context["clientRequestId"] == properties.client_request_id


def test_a_result_over_the_limit_fails_with_what_it_had(client: KustoClient) -> None:
    """The real service answers 200 with the rows so far and an error in place of the next one; the SDK raises."""
    properties = ClientRequestProperties()
    properties.set_option("truncationmaxrecords", 5)
    text = "range x from 1 to 10 step 1"
    with pytest.raises(KustoMultiApiError) as caught:
        client.execute_query(DATABASE, text, properties)
    assert "E_QUERY_RESULT_SET_TOO_LARGE" in str(caught.value)
    rows_so_far = next(client.execute_streaming_query(DATABASE, text, properties=properties).iter_primary_results())
    assert [next(rows_so_far)[0] for _ in range(5)] == [1, 2, 3, 4, 5]
    with pytest.raises(KustoMultiApiError):
        next(rows_so_far)
