"""The flags of ``convert`` that say how to convert and prove; those of serving are elsewhere."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit import screen
from toolkit.commands import decorated
from toolkit.errors import SampleError
from toolkit.options import Names, read_axes, read_options_file
from toolkit.spec import Road

if TYPE_CHECKING:
    from converters import ConversionOptions

_TOLERANCE = 1e-4


def _list_converters(context: click.Context, _param: click.Parameter, value: bool) -> None:
    if value:
        from converters import table
        from converters.estimators import registry

        screen.converters(table.ENTRIES, registry.known())
        context.exit()


_FLAGS = (
    click.option("--name", help="Name of the model on Triton. [default: the file's name]"),
    click.option("--sample", help="Rows the model takes: .npy .npz .csv .parquet .jsonl .json"),
    click.option("--drop", multiple=True, metavar="COLUMN", help="Leave this sample column out."),
    click.option("--trusted", is_flag=True, help="Load the file even if that runs code in it."),
    click.option(
        "--road",
        type=click.Choice([road.value for road in Road]),
        help="Take this road and no other.",
    ),
    click.option(
        "--outputs",
        type=Names(),
        default=(),
        help="Answers: label,probabilities,scores,transformed,prediction [default: the usual]",
    ),
    click.option("--framework", help="What made the file, when it is not plain from it."),
    click.option(
        "--release", default="25.11", show_default=True, help="Container to stay legal for."
    ),
    click.option("--atol", type=float, help="Absolute tolerance of the proof. [default: 0.0001]"),
    click.option("--rtol", type=float, help="Relative tolerance of the proof. [default: 0.0001]"),
    click.option(
        "--quantize",
        type=click.Choice(["dynamic", "fp16"]),
        help="Make the ONNX model smaller, to int8 or half precision; --atol: what it may cost.",
    ),
    click.option(
        "--dynamic-axis",
        "dynamic_axes",
        multiple=True,
        callback=read_axes,
        metavar="NAME:AXIS",
        help="This axis of a torch model's tensor has any length; axis 0 counts rows.",
    ),
    click.option(
        "--prefer",
        type=click.Choice(["exact", "speed"]),
        default="exact",
        help="speed: of all rungs that prove, take the one fastest for --max-batch-size rows.",
    ),
    click.option(
        "--time-limit",
        type=click.FloatRange(min=0, min_open=True),
        default=120.0,
        show_default=True,
        help="Seconds that a converter of another library may take.",
    ),
    click.option(
        "--explain", is_flag=True, help="Show every rung of the ladder and why it was left."
    ),
    click.option(
        "--list",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_list_converters,
        help="Show what converts to what, with which proof.",
    ),
    click.option(
        "--options",
        type=click.Path(path_type=Path),
        is_eager=True,
        callback=read_options_file,
        help="A YAML file of these flags, written max_batch_size: 64.",
    ),
)


def conversion_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a click command the flags of a conversion."""
    made: Callable[..., Any] = decorated(command, _FLAGS)
    return made


def conversion_options(path: Path, flags: Mapping[str, Any]) -> "ConversionOptions":
    """Return what ``flags`` say about converting the file in ``path``."""
    from converters import ConversionOptions
    from converters.quantize import TOLERANCES

    usual = TOLERANCES.get(flags["quantize"], _TOLERANCE)
    return ConversionOptions(
        name=flags["name"] or path.resolve().name.split(".")[0],
        sample=_read_sample(flags["sample"], flags["drop"]),
        road=Road(flags["road"]) if flags["road"] else None,
        atol=usual if flags["atol"] is None else flags["atol"],
        rtol=usual if flags["rtol"] is None else flags["rtol"],
        batch_size=flags["max_batch_size"] or 1,
        **{
            name: flags[name]
            for name in (
                "trusted",
                "framework",
                "release",
                "intra_op_thread_count",
                "outputs",
                "dynamic_axes",
                "quantize",
                "prefer",
                "time_limit",
            )
        },
    )


def _read_sample(source: str | None, drop: tuple[str, ...]) -> Any:
    from toolkit.samples import read_rows

    if source is None:
        return None
    rows = read_rows(source)
    if drop:
        names = list(rows) if isinstance(rows, dict) else []
        missing = [name for name in drop if name not in names]
        if missing:
            raise SampleError(
                f"{source} has no column {missing[0]!r}",
                hint=f"its columns: {', '.join(names) or 'none have names'}",
            )
        return {name: rows[name] for name in names if name not in drop}
    return rows
