from __future__ import annotations

import errno
from pathlib import Path

import httpx2
import pytest
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, OfflineModeIsEnabled

from longlens.errors import CapacityError, ModelNotFoundError
from longlens.hub.faults import HTTP_ERROR, disk_fault, hub_fault, is_transient, no_room

ENDPOINT = "http://hub"


def refusal(status: int, kind: type[HfHubHTTPError] = HfHubHTTPError) -> HfHubHTTPError:
    return kind("no", response=httpx2.Response(status, request=httpx2.Request("GET", ENDPOINT)))


def test_every_error_of_the_http_client_is_known() -> None:
    assert issubclass(httpx2.ConnectError, HTTP_ERROR)
    assert issubclass(httpx2.ReadTimeout, HTTP_ERROR)
    assert issubclass(HfHubHTTPError, HTTP_ERROR)
    assert not issubclass(OSError, HTTP_ERROR)


@pytest.mark.parametrize(("status", "expected"), [(404, False), (401, False), (429, True), (503, True)])
def test_a_refusal_is_final_and_a_busy_hub_is_not(status: int, expected: bool) -> None:
    assert is_transient(refusal(status)) is expected


def test_a_lost_connection_may_come_back_and_a_full_disk_does_not() -> None:
    assert is_transient(httpx2.ReadError("lost"))
    assert not is_transient(OSError(errno.ENOSPC, "full"))


@pytest.mark.parametrize("status", [401, 404])
def test_the_mend_depends_on_whether_a_token_was_sent(status: int) -> None:
    without = hub_fault(refusal(status), "a/b", ENDPOINT, has_token=False)
    with_one = hub_fault(refusal(status), "a/b", ENDPOINT, has_token=True)
    assert "set HF_TOKEN" in without.mend
    assert "token may read it" in with_one.mend
    assert "http://hub has no a/b" in without.fault


def test_an_organisation_that_is_often_misspelled_is_named() -> None:
    assert "zai-org" in hub_fault(refusal(404), "z-ai/GLM-9", ENDPOINT, has_token=False).mend


def test_gated_repositories_and_other_refusals_have_their_own_words() -> None:
    assert "accept its terms" in hub_fault(refusal(403, GatedRepoError), "a/b", ENDPOINT, has_token=False).mend
    assert "answers 500" in hub_fault(refusal(500), "a/b", ENDPOINT, has_token=False).fault
    assert "HF_HUB_OFFLINE" in hub_fault(OfflineModeIsEnabled(), "a/b", ENDPOINT, has_token=False).fault


def test_a_fault_is_one_line_although_the_clients_error_has_several() -> None:
    fault = hub_fault(httpx2.ConnectError("first\nsecond"), "a/b", ENDPOINT, has_token=False)
    assert fault.fault == "http://hub cannot be reached for a/b: ConnectError, first second"


def test_a_full_disk_is_told_from_one_that_may_not_be_written() -> None:
    assert isinstance(disk_fault(OSError(errno.ENOSPC, "full"), Path("x")), CapacityError)
    assert isinstance(disk_fault(PermissionError(errno.EACCES, "Permission denied"), Path("x")), ModelNotFoundError)


def test_a_download_that_does_not_fit_says_how_much_is_missing() -> None:
    fault = no_room(3 * 1024**3, 1024**3, Path("folder"))
    assert fault.fault == "the download needs 3.0 GiB, 1.0 GiB are free in folder"
    assert fault.mend.startswith("free 2.0 GiB more")
