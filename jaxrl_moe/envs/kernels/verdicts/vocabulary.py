"""What a candidate may call by name: modules and what is in them. Whatever is not here is refused, as most
of torch and of Triton is: what a kernel needs of them is little, and what verdicts are forged with is the
rest."""

_DTYPES = """float16 bfloat16 float32 float64 half float double int8 int16 int32 int64 uint8 short int long bool"""
_MADE = """empty empty_like empty_strided zeros zeros_like ones ones_like full full_like tensor as_tensor scalar_tensor arange
linspace eye rand rand_like randn randn_like randint"""
_COMPUTED = """abs add addmm addmv amax amin all any argmax argmin argsort atan2 baddbmm bmm broadcast_tensors bucketize cat
ceil chunk clamp clip concat conv1d conv2d conv3d cos cosh cross cummax cummin cumprod cumsum diag diagonal div dot einsum eq
erf exp exp2 expm1 flatten flip floor fmod gather ge greater gt index_select isfinite isinf isnan le less log log10 log1p log2
logaddexp logical_and logical_not logical_or logsumexp lt masked_fill matmul max maximum mean median min minimum mm movedim mul
multiply mv narrow ne neg norm numel outer permute pow prod reciprocal relu remainder repeat_interleave reshape roll round rsqrt
scatter scatter_add select selu sigmoid sign sin sinh softmax log_softmax sort split sqrt square squeeze stack std std_mean sub
sum swapaxes t tan tanh tile topk transpose tril triu trunc unbind unflatten unsqueeze as_strided var var_mean vstack hstack vdot where"""
_REST = """Tensor device dtype Size finfo iinfo no_grad inference_mode is_tensor is_floating_point promote_types result_type
contiguous_format channels_last preserve_format strided inf nan pi e nn cuda broadcast_shapes"""

_LIBDEVICE = frozenset("""clz popc byte_perm mulhi mul24 brev sad abs floor rcp64h rsqrt ceil trunc exp2 saturatef fma_rn fma_rz fma_rd fma_ru
fast_dividef div_rn div_rz div_rd div_ru rcp_rn rcp_rz rcp_rd rcp_ru sqrt_rn sqrt_rz sqrt_rd sqrt_ru sqrt add_rn add_rz
add_rd add_ru mul_rn mul_rz mul_rd mul_ru double2float_rn double2float_rz double2float_rd double2float_ru double2int_rn
double2int_rz double2int_rd double2int_ru double2uint_rn double2uint_rz double2uint_rd double2uint_ru int2double_rn
uint2double_rn float2int_rn float2int_rz float2int_rd float2int_ru float2uint_rn float2uint_rz float2uint_rd
float2uint_ru int2float_rn int2float_rz int2float_rd int2float_ru uint2float_rn uint2float_rz uint2float_rd
uint2float_ru hiloint2double double2loint double2hiint float2ll_rn float2ll_rz float2ll_rd float2ll_ru float2ull_rn
float2ull_rz float2ull_rd float2ull_ru double2ll_rn double2ll_rz double2ll_rd double2ll_ru double2ull_rn double2ull_rz
double2ull_rd double2ull_ru ll2float_rn ll2float_rz ll2float_rd ll2float_ru ull2float_rn ull2float_rz ull2float_rd
ull2float_ru ll2double_rn ll2double_rz ll2double_rd ll2double_ru ull2double_rn ull2double_rz ull2double_rd ull2double_ru
int_as_float float_as_int uint_as_float float_as_uint longlong_as_double double_as_longlong fast_sinf fast_cosf
fast_log2f fast_logf fast_expf fast_tanhf fast_tanf fast_exp10f fast_log10f fast_powf hadd rhadd sub_rn sub_rz sub_rd
sub_ru rsqrt_rn ffs rint llrint nearbyint isnan signbit copysign finitef isinf nextafter sin cos sinpi cospi tan log2
exp exp10 cosh sinh tanh atan2 atan asin acos log log10 log1p acosh asinh atanh expm1 hypot rhypot norm3d rnorm3d norm4d
rnorm4d cbrt rcbrt j0 j1 y0 y1 yn jn cyl_bessel_i0 cyl_bessel_i1 erf erfinv erfc erfcx erfcinv normcdfinv normcdf lgamma
ldexp scalbn fmod remainder fma pow tgamma round llround fdim ilogb logb isfinited""".split())

# What stands in each module; a submodule by its own name.
VOCABULARY = {
    "torch": frozenset((_DTYPES + " " + _MADE + " " + _COMPUTED + " " + _REST).split()),
    "torch.cuda": frozenset("current_device device get_device_properties get_device_capability is_available synchronize".split()),
    "torch.nn": frozenset("""Module Parameter ParameterList ModuleList Sequential Identity Linear Bilinear Conv1d Conv2d Conv3d
ConvTranspose1d ConvTranspose2d ConvTranspose3d BatchNorm1d BatchNorm2d BatchNorm3d InstanceNorm1d InstanceNorm2d InstanceNorm3d
LayerNorm GroupNorm RMSNorm Embedding Dropout ReLU ReLU6 LeakyReLU ELU SELU CELU GELU SiLU Mish Sigmoid Tanh Softplus Softsign
Softmax LogSoftmax Hardtanh Hardswish Hardsigmoid MaxPool1d MaxPool2d MaxPool3d AvgPool1d AvgPool2d AvgPool3d AdaptiveAvgPool1d
AdaptiveAvgPool2d AdaptiveMaxPool2d MultiheadAttention LSTM GRU RNN Flatten functional init""".split()),
    "torch.nn.init": frozenset("""uniform_ normal_ zeros_ ones_ constant_ kaiming_uniform_ kaiming_normal_ xavier_uniform_
xavier_normal_ trunc_normal_ eye_ orthogonal_ calculate_gain""".split()),
    "torch.nn.functional": frozenset("""relu relu6 leaky_relu elu selu celu gelu silu mish sigmoid tanh logsigmoid softplus softsign
softmax log_softmax hardtanh hardswish hardsigmoid linear bilinear conv1d conv2d conv3d conv_transpose1d conv_transpose2d
conv_transpose3d batch_norm instance_norm layer_norm group_norm rms_norm normalize max_pool1d max_pool2d max_pool3d avg_pool1d
avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d pad interpolate embedding one_hot dropout cross_entropy nll_loss
mse_loss l1_loss smooth_l1_loss huber_loss kl_div cosine_similarity scaled_dot_product_attention unfold fold glu
triplet_margin_loss hinge_embedding_loss binary_cross_entropy binary_cross_entropy_with_logits""".split()),
    "triton": frozenset("jit autotune heuristics Config cdiv next_power_of_2 language".split()),
    "triton.language": frozenset("""constexpr dtype pointer_type tensor float8e4nv float8e5 float16 bfloat16 float32 float64
int1 int8 int16 int32 int64 uint8 uint16 uint32 uint64 void program_id num_programs arange zeros zeros_like full cat join split interleave
broadcast broadcast_to expand_dims permute trans ravel reshape view load store make_block_ptr make_tensor_descriptor
flip where swizzle2d dot dot_scaled abs ceil clamp cdiv cos div_rn erf exp exp2 fdiv floor fma log log2 maximum minimum max min
rsqrt sigmoid sin softmax sqrt sqrt_rn umulhi argmax argmin reduce sum xor_sum associative_scan cumprod cumsum histogram sort topk
gather atomic_add atomic_and atomic_cas atomic_max atomic_min atomic_or atomic_xchg atomic_xor randint randint4x rand rand4x
randn randn4x range static_range static_assert static_print assume multiple_of max_contiguous max_constancy debug_barrier
device_print device_assert math extra cast to_tensor""".split()),
    "triton.language.math": frozenset("""abs ceil cos div_rn erf exp exp2 fdiv floor fma log log2 rsqrt sin sqrt sqrt_rn
umulhi""".split()),
    "triton.language.extra": frozenset(["cuda", "libdevice"]),
    "triton.language.extra.cuda": frozenset(["libdevice", "gdc_wait", "gdc_launch_dependents"]),
    "triton.language.extra.libdevice": _LIBDEVICE,
    "triton.language.extra.cuda.libdevice": _LIBDEVICE,
    "math": frozenset("""acos acosh asin asinh atan atan2 atanh cbrt ceil comb copysign cos cosh degrees dist e erf erfc exp exp2
expm1 fabs factorial floor fmod frexp fsum gamma gcd hypot inf isclose isfinite isinf isnan isqrt lcm ldexp lgamma log log10 log1p
log2 modf nan nextafter perm pi pow prod radians remainder sin sinh sqrt tan tanh tau trunc ulp""".split()),
    "typing": frozenset("Any Callable Dict Final Iterable List Literal Optional Sequence Tuple Union".split()),
    "__future__": frozenset(["annotations"]),
}

# Python's own functions that reach beyond what they are given.
NAMES = frozenset(
    "eval exec compile open breakpoint globals locals vars dir getattr setattr delattr memoryview exit quit object".split())
# Of tensors, kernels and modules: what tells of memory, takes values into Python, keeps something between calls, or hangs
# itself into what others call.
ATTRIBUTES = frozenset(
    "data_ptr untyped_storage storage storage_offset set_ share_memory_ numpy tolist item backward grad_fn "
    "register_hook register_forward_hook register_forward_pre_hook register_module add_module apply_ map_ "
    "map2_ device_caches record_stream Stream Event Graph CUDAGraph load_state_dict inline_asm_elementwise "
    "as_subclass new_tensor mro builder get_type_hints overrides autograd jit fx serialization testing "
    "profiler multiprocessing distributed backends knobs sys ctypes".split())
# Likewise, and names that a module's own attributes have too.
ORDINARY = frozenset("run fn src params cache warmup stream ops library utils compile compiler hub futures "
                     "package hooks runtime os".split())
# By which a list, a mapping or a set changes: of what the function itself has made, and of nothing that outlives it.
CHANGING = frozenset("append extend insert update setdefault pop popitem add discard remove clear sort reverse".split())
# Beginnings of names that lead from a function, a generator or an error to its frames and its code.
FRAMES = ("gi_", "cr_", "ag_", "f_", "tb_", "co_", "func_")
# Methods of a module's own by which __init__ may keep something, and nothing else may.
REGISTERS = frozenset("register_buffer register_parameter to half float double bfloat16 type cuda cpu apply "
                      "train eval requires_grad_".split())
# Methods that a module of a candidate's may have, of those that begin with two underscores.
DUNDERS = frozenset(["__init__"])
