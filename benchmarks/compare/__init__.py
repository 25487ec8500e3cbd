"""`python -m benchmarks.compare`: MACE and other inference engines, timed side by side.

The modules: `cli` reads the options, `catalogue` has the models and their inputs, `engines` runs a model on one engine,
`convert` and `tflite` bring a model into an engine's own format, `worker` is the process of one measurement, `measure`
starts those processes, `machine` and `peak` look at the computer, `results`, `report` and `chart` show what came out.
"""
