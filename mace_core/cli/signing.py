"""`mace keygen`, `mace sign` and `mace verify`: who made a package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mace_core.cli.exit_codes import VERDICT
from mace_core.cli.shared_options import OutputOptions, shared_options
from mace_core.cli.written_files import check_target

Package = Annotated[str, typer.Argument(metavar="MODEL.mace", help="The package.", show_default=False)]


@shared_options
def keygen(
    out: Annotated[Path, typer.Argument(metavar="KEY", help="File of the private key; the public one is KEY.pub.")],
    *,
    output: OutputOptions,
) -> None:
    """Make a pair of Ed25519 keys to sign packages with. The private key is readable by its owner alone.

    Examples:

      mace keygen release.key
    """
    from mace_core.package.keys import key_id, make_key_pair

    check_target("KEY", out)
    private, public, key = make_key_pair(out)
    found = {"private": str(private), "public": str(public), "key": key_id(key)}

    def text() -> None:
        from mace_core.cli.output import print_folded

        print_folded(f"{private} is to stay secret, {public} goes to who is to trust it: key {found['key']}")

    output.deliver("keygen", found, text)


@shared_options
def sign(
    model: Package,
    *,
    key: Annotated[
        Path, typer.Option("--key", metavar="KEY", help="The private key (PEM, or 32 raw bytes).", show_default=False)
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="OUT.mace",
            help="Write here. Default: in the place of the package.",
            show_default=False,
        ),
    ] = None,
    output: OutputOptions,
) -> None:
    """Sign a package. Signatures of others stay.

    Examples:

      mace sign model.mace --key release.key
    """
    from mace_core.package.keys import key_id, read_signing_key
    from mace_core.package.signatures import sign_package

    check_target("--out", out, (".mace",))
    signer = read_signing_key(key)
    sign_package(_existing(model), signer, out)
    found = {"model": model, "out": str(out or model), "key": key_id(signer.public)}

    def text() -> None:
        from mace_core.cli.output import print_folded

        print_folded(f"{found['out']} is signed by the key {found['key']}")

    output.deliver("sign", found, text)


@shared_options
def verify(
    model: Package,
    *,
    key: Annotated[
        list[str],
        typer.Option(
            "--key",
            metavar="KEY.pub",
            help="A public key that is trusted (PEM, OpenSSH, or 32 raw bytes); may be repeated. Default: those of "
            "MACE_TRUSTED_KEYS; without any, signatures are only compared with the keys that they name.",
            show_default=False,
        ),
    ] = [],  # noqa: B006 - typer copies it
    output: OutputOptions,
) -> None:
    """Compare a package with its checksums and its signatures. The exit code is 3 if no trusted key has signed it.

    Examples:

      mace verify model.mace --key release.key.pub
    """
    from mace_core.package.reader import open_package
    from mace_core.package.signatures import is_good, signatures_of, trust_of

    trust = trust_of(key or None)
    package = open_package(_existing(model))
    signatures = [_row(one.key, is_good(package, one), trust) for one in signatures_of(package)]
    failure = _failure(package.label, signatures, is_trust_asked=trust is not None)
    found = {"model": model, "signatures": signatures, "is_good": not failure, "reason": failure}

    def text() -> None:
        from mace_core.cli.output import print_folded

        print_folded(f"{package.label} is whole: its checksums fit")
        for each in signatures:
            state = "fits" if each["fits"] else "does NOT fit"
            trusted = {True: ", trusted", False: ", not trusted", None: ""}[each["trusted"]]
            print_folded(f"signature {state}{trusted}: key {each['key']}")
        print_folded(f"NOT VERIFIED: {failure}" if failure else "ok: it is signed")

    output.deliver("verify", found, text)
    if failure:
        raise typer.Exit(VERDICT)


def _row(key: bytes, fits: bool, trust: Any) -> dict[str, Any]:
    from mace_core.package.keys import key_id

    return {"key": key_id(key), "fits": fits, "trusted": None if trust is None else key in trust.keys}


def _failure(label: str, signatures: list[dict[str, Any]], *, is_trust_asked: bool) -> str:
    """Why it is not verified; "" where it is."""
    if not signatures:
        return f"{label} is not signed"
    good = [each for each in signatures if each["fits"]]
    if not is_trust_asked:
        return "" if len(good) == len(signatures) else f"{label} was changed after it had been signed"
    if any(each["trusted"] for each in good):
        return ""
    if any(each["trusted"] for each in signatures):
        return f"{label} was changed after a trusted key had signed it"
    return f"{label} is signed by no trusted key"


def _existing(model: str) -> Path:
    from mace_core.frontend.load import check_file, model_path

    path = model_path(model)
    check_file(path)
    return path
