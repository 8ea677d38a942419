//! ONNX models in the process: loading, checking, running in batches; tree ensembles by a flat walk.
