"""Special functions in float64 that ONNX lacks, or ONNX Runtime has in float32 only."""

from converters.onnx_writer import Tensor


def log1p(x: Tensor) -> Tensor:
    """Return log(1 + x), exact for small x too: Kahan's form, since ONNX has no such operator."""
    whole = 1.0 + x
    plain = whole.apply("Log")
    rest = whole - 1.0
    # A zero rest is replaced before dividing, and infinity stays what Log makes of it.
    small = rest.eq(0.0)
    close = plain * x / x.graph.where(small, 1.0, rest)
    finite = x.graph.where(small, x, close)
    return x.graph.where(x > 1e300, plain, finite)  # noqa: PLR2004 - where 1 + x is x


def expm1(x: Tensor) -> Tensor:
    """Return exp(x) - 1, exact for small x too."""
    power = x.apply("Exp")
    rest = power - 1.0
    logs = power.apply("Log")
    known = logs.eq(0.0)
    close = rest * x / x.graph.where(known, 1.0, logs)
    finite = x.graph.where(known, x, close)
    far = x.apply("Abs") > 30.0  # noqa: PLR2004 - the 1 is below the last digit
    return x.graph.where(far, rest, finite)


def expit(x: Tensor) -> Tensor:
    """Return 1 / (1 + exp(-x)) to the last digits: ONNX Runtime's Sigmoid is 0 below -37."""
    power = (-x.apply("Abs")).apply("Exp")
    return x.graph.where(x >= 0.0, 1.0, power) / (1.0 + power)


# The rational approximations of the Cephes library (Moshier), which SciPy uses too;
# leading coefficient first.
_ERF = (
    (9.60497373987051638749, 90.0260197203842689217, 2232.00534594684319226,
     7003.32514112805075473, 55592.3013010394962768),
    (1.0, 33.5617141647503099647, 521.357949780152679795, 4594.32382970980127987,
     22629.0000613890934246, 49267.3942608635921086),
)  # fmt: skip
_ERFC = (
    (2.46196981473530512524e-10, 0.564189564831068821977, 7.46321056442269912687,
     48.6371970985681366614, 196.520832956077098242, 526.445194995477358631,
     934.528527171957607540, 1027.55188689515710272, 557.535335369399327526),
    (1.0, 13.2281951154744992508, 86.7072140885989742329, 354.937778887819891062,
     975.708501743205489753, 1823.90916687909736289, 2246.33760818710981792,
     1656.66309194161350182, 557.535340817727675546),
)  # fmt: skip
_ERFC_FAR = (
    (0.564189583547755073984, 1.27536670759978104416, 5.01905042251180477414,
     6.16021097993053585195, 7.40974269950448939160, 2.97886665372100240670),
    (1.0, 2.26052863220117276590, 9.39603524938001434673, 12.0489539808096656605,
     17.0814450747565897222, 9.60896809063285878198, 3.36907645100081516050),
)  # fmt: skip
_FAR = 8.0


def erf(x: Tensor) -> Tensor:
    """Return the error function."""
    near = _erf_near(x)
    far = 1.0 - _erfc_of_size(x.apply("Abs").clip(1.0, None))
    return x.graph.where(x.apply("Abs") < 1.0, near, x.apply("Sign") * far)


def ndtr(x: Tensor) -> Tensor:
    """Return the distribution function of the normal distribution, exact in its tails too."""
    scaled = x * 0.70710678118654752440
    size = scaled.apply("Abs")
    tail = _erfc_of_size(size.clip(1.0, None)) * 0.5
    outer = x.graph.where(x > 0.0, 1.0 - tail, tail)
    inner = _erf_near(scaled) * 0.5 + 0.5
    return x.graph.where(size < 1.0, inner, outer)


def _erf_near(x: Tensor) -> Tensor:
    square = x * x
    return x * polynomial(square, _ERF[0]) / polynomial(square, _ERF[1])


def _erfc_of_size(size: Tensor) -> Tensor:
    """Return 1 - erf for sizes of at least 1."""
    # Past 40 the power is 0 anyway, and the polynomials stay finite.
    limited = size.clip(None, 40.0)
    power = (-(limited * limited)).apply("Exp")
    near, far = (
        polynomial(limited, top) / polynomial(limited, bottom) for top, bottom in (_ERFC, _ERFC_FAR)
    )
    return power * size.graph.where(limited < _FAR, near, far)


# Of the same library, for shares above exp(-32).
_NDTRI_CENTRE = (
    (-59.9633501014107895267, 98.0010754185999661536, -56.6762857469070293439,
     13.9312609387279679503, -1.23916583867381258016, 0.0),
    (1.0, 1.95448858338141759834, 4.67627912898881538453, 86.3602421390890590575,
     -225.462687854119370527, 200.260212380060660359, -82.0372256168333339912,
     15.9056225126211695515, -1.18331621121330003142),
)  # fmt: skip
_NDTRI_TAIL = (
    (4.05544892305962419923, 31.5251094599893866154, 57.1628192246421288162,
     44.0805073893200834700, 14.6849561928858024014, 2.18663306850790267539,
     -0.140256079171354495875, -0.0350424626827848203418, -0.000857456785154685413611),
    (1.0, 15.7799883256466749731, 45.3907635128879210584, 41.3172038254672030440,
     15.0425385692907503408, 2.50464946208309415979, -0.142182922854787788574,
     -0.0380806407691578277194, -0.000933259480895457427372),
)  # fmt: skip
_OUTER = 0.13533528323661269189
"""exp(-2), where one approximation hands over to the other."""


def ndtri(shares: Tensor) -> Tensor:
    """Return ``scipy.special.ndtri`` of shares between exp(-32) and 1 - exp(-32)."""
    graph = shares.graph
    upper = shares > 1.0 - _OUTER
    lower = graph.where(upper, 1.0 - shares, shares)
    offset = lower - 0.5
    square = offset * offset
    # Cephes' first numerator has no constant term: it is multiplied by the square.
    top, bottom = (polynomial(square, each) for each in _NDTRI_CENTRE)
    centre = (offset + offset * (top / bottom)) * 2.50662827463100050242
    root = (lower.apply("Log") * -2.0).apply("Sqrt")
    inverse = 1.0 / root
    above, below = (polynomial(inverse, each) for each in _NDTRI_TAIL)
    tail = root - root.apply("Log") / root - inverse * above / below
    return graph.where(lower > _OUTER, centre, graph.where(upper, tail, -tail))


def polynomial(x: Tensor, coefficients: tuple[float, ...]) -> Tensor:
    """Return a polynomial by Horner's rule, leading coefficient first."""
    first, second, *rest = coefficients
    total = x * first + second
    for each in rest:
        total = total * x + each
    return total
