"""Every error treadle raises on purpose.

TreadleError
├── ShapeError       (ValueError)    shapes or axes that do not fit
│   └── AxisError    (IndexError)    an axis that an operand does not have
├── DTypeError       (TypeError)     dtypes that do not fit
├── IndexRangeError  (IndexError)    an index value outside its axis
├── TraceError       (RuntimeError)  Python that cannot be part of a compiled function
├── GradientError    (RuntimeError)  a gradient that does not exist
├── LinAlgError      (ValueError)    a matrix for which the result does not exist
├── VerifyError      (ValueError)    a graph or text that breaks the grammar
├── ScheduleError    (ValueError)    a schedule that does not apply
├── CompileError     (RuntimeError)  code generation failed: a bug of ours
├── MemoryLimitError (MemoryError)   more memory asked than there is
├── ConfigError      (ValueError)    a setting that does not exist or has a wrong value
├── DataError        (ValueError)    input files that cannot be used
├── CheckpointError  (ValueError)    a checkpoint that is damaged or belongs to another model
└── NonFiniteError   (RuntimeError)  training met NaN or infinity

A message says what is wrong, with the values; what is allowed; what to do.
"""


class TreadleError(Exception):
    """Base of all errors treadle raises on purpose."""


class ShapeError(TreadleError, ValueError):
    """Shapes or axes that do not fit."""


class AxisError(ShapeError, IndexError):
    """An axis that an operand does not have: an IndexError, too, as the array API and PyTorch have it."""


class DTypeError(TreadleError, TypeError):
    """Data types that do not fit."""


class IndexRangeError(TreadleError, IndexError):
    """An index value outside its axis."""


class TraceError(TreadleError, RuntimeError):
    """Python that cannot be part of a compiled function."""


class GradientError(TreadleError, RuntimeError):
    """A gradient that does not exist."""


class LinAlgError(TreadleError, ValueError):
    """A matrix for which the result does not exist: singular, not positive definite, not finite."""


class VerifyError(TreadleError, ValueError):
    """A graph, or the text of one, that breaks the grammar."""


class ScheduleError(TreadleError, ValueError):
    """A schedule that does not apply to the formula."""


class CompileError(TreadleError, RuntimeError):
    """Code generation failed."""


class MemoryLimitError(TreadleError, MemoryError):
    """More memory asked than there is."""


class ConfigError(TreadleError, ValueError):
    """A setting that does not exist or has a value that is not allowed."""


class DataError(TreadleError, ValueError):
    """Input data that cannot be used."""


class CheckpointError(TreadleError, ValueError):
    """A checkpoint that is damaged or belongs to another model."""


class NonFiniteError(TreadleError, RuntimeError):
    """Training met NaN or infinity."""
