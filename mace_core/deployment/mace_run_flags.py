"""The flags of MACE's ``mace_run``, and what each does here."""

from __future__ import annotations

from mace_core.deployment.gflags import Flag

_OPENCL = "the OpenCL provider keeps its kernels in the cache of `mace cache`"
_CACHE = "what a provider compiles is kept in the cache of `mace cache`, or in the package"

FLAGS = (
    Flag("model_name", "", "model name in yaml"),
    Flag("model_file", "", "the converted model (.mace), or a model file"),
    Flag("model_data_file", "", "model data file name", "a package holds its weights"),
    Flag("input_node", "", "input nodes, separated by comma; all of them where nothing is said"),
    Flag("input_shape", "", "input shapes, separated by colon and comma; the model's where nothing is said"),
    Flag("output_node", "", "output nodes, separated by comma; all of them where nothing is said"),
    Flag("output_shape", "", "output shapes, separated by colon and comma"),
    Flag("input_data_type", "float32", "input data type, float32|float16|bfloat16|int32|int16|uint8"),
    Flag("output_data_type", "float32", "output data type, likewise"),
    Flag("input_data_format", "NHWC", "input data formats, NONE|NHWC|NCHW"),
    Flag("output_data_format", "NHWC", "output data formats, NONE|NHWC|NCHW"),
    Flag("input_file", "", "input file name, or its beginning: _ and the name of the input follow"),
    Flag("output_file", "", "output file name, or its beginning: _ and the name of the output follow"),
    Flag("input_dir", "", "directory of inputs; their files begin with the name of the input"),
    Flag("output_dir", "output", "directory for the outputs of input_dir"),
    Flag("round", 1, "round: runs that are timed"),
    Flag("restart_round", 1, "restart round: how often the model is opened"),
    Flag("malloc_check_cycle", -1, "malloc debug check cycle", "runs allocate nothing; `mace memory` shows memory"),
    Flag("num_threads", -1, "num of threads; -1 for all"),
    Flag(
        "cpu_affinity_policy",
        1,
        "0:AFFINITY_NONE/1:AFFINITY_BIG_ONLY/2:AFFINITY_LITTLE_ONLY/3:HIGH_PERFORMANCE/4:POWER_SAVE",
        choices=range(5),
    ),
    Flag("gpu_perf_hint", 3, "0:DEFAULT/1:LOW/2:NORMAL/3:HIGH", "OpenCL has no such hint that is portable", range(4)),
    Flag(
        "gpu_priority_hint", 3, "0:DEFAULT/1:LOW/2:NORMAL/3:HIGH", "OpenCL has no such hint that is portable", range(4)
    ),
    Flag("opencl_cache_full_path", "", "opencl cache file path", _OPENCL),
    Flag("opencl_binary_file", "", "compiled opencl binary file path", _OPENCL),
    Flag("opencl_parameter_file", "", "tuned OpenCL parameter file path", "kernels are chosen by a cost model"),
    Flag("opencl_cache_reuse_policy", 1, "0:NONE/1:REUSE_SAME_GPU", _OPENCL, range(2)),
    Flag("accelerator_cache_policy", 0, "0:NONE/1:STORE/2:LOAD/3:APU_LOAD_OR_STORE", choices=range(4)),
    Flag("accelerator_binary_file", "", "accelerator init cache path, to load", _CACHE),
    Flag("accelerator_storage_file", "", "accelerator init cache path, to store", _CACHE),
    Flag("apu_boost_hint", 100, "APU boost value, 0 (lowest) to 100 (highest)", choices=range(101)),
    Flag(
        "apu_preference_hint",
        1,
        "0:NEURON_PREFER_LOW_POWER/1:NEURON_PREFER_FAST_SINGLE_ANSWER/2:NEURON_PREFER_SUSTAINED_SPEED",
        choices=range(3),
    ),
    Flag("benchmark", False, "enable benchmark op: print MACE's tables"),
    Flag("benchmark_model", False, "the same as benchmark"),
    Flag("fake_warmup", False, "enable fake warmup", "plans and memory are made when the model is opened"),
    Flag("device", "", "device to use instead of the model's runtime, separated by comma (not a flag of MACE)"),
    Flag("strict", False, "fail where a node would run on another device (not a flag of MACE)"),
    Flag("help", False, "show this help"),
    Flag("version", False, "show the version"),
)
