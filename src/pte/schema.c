/* SPDX-License-Identifier: BSD-3-Clause */
/* The tables behind pte/schema.h. */
#include "pte/schema.h"

enum { T_PROGRAM, T_PLAN, T_CONTAINER, T_VALUE, T_NULL, T_INT, T_BOOL, T_DOUBLE, T_TENSOR, T_STRING, T_INT_LIST,
       T_DOUBLE_LIST, T_BOOL_LIST, T_TENSOR_LIST, T_OPTIONAL_LIST, T_ALLOCATION, T_EXTRA, T_CHAIN, T_INSTRUCTION,
       T_KERNEL_CALL, T_DELEGATE_CALL, T_MOVE_CALL, T_JUMP_CALL, T_FREE_CALL, T_FRAME_LIST, T_FRAME, T_OPERATOR,
       T_DELEGATE, T_PROCESSED, T_SPEC, T_DEVICE, T_BUFFER, T_INLINE, T_SEGMENT, T_SUBSEGMENT, T_NAMED };
enum { U_KINDS, U_CALLS };

#define SCALAR(bytes, name) {ANM_FB_SCALAR, bytes, name}
#define STRING(name) {ANM_FB_STRING, 0, name}
#define VECTOR(bytes, name) {ANM_FB_VECTOR, bytes, name}
#define TABLE(type, name) {ANM_FB_TABLE, type, name}
#define TABLES(type, name) {ANM_FB_TABLES, type, name}
#define UNION(list, name) {ANM_FB_UNION, list, name}

static const anm_fb_field program[] = {
    SCALAR(4, "version"), TABLES(T_PLAN, "execution_plan"), TABLES(T_BUFFER, "constant_buffer"),
    TABLES(T_INLINE, "backend_delegate_data"), TABLES(T_SEGMENT, "segments"), TABLE(T_SUBSEGMENT, "constant_segment"),
    TABLES(T_SUBSEGMENT, "mutable_data_segments"), TABLES(T_NAMED, "named_data")};
static const anm_fb_field plan[] = {
    STRING("name"), TABLE(T_CONTAINER, "container_meta_type"), TABLES(T_VALUE, "values"), VECTOR(4, "inputs"),
    VECTOR(4, "outputs"), TABLES(T_CHAIN, "chains"), TABLES(T_OPERATOR, "operators"), TABLES(T_DELEGATE, "delegates"),
    VECTOR(8, "non_const_buffer_sizes"), TABLES(T_DEVICE, "non_const_buffer_device")};
static const anm_fb_field container[] = {STRING("encoded_inp_str"), STRING("encoded_out_str")};
static const anm_fb_field value[] = {UNION(U_KINDS, "val")};
static const anm_fb_field integer[] = {SCALAR(8, "int_val")};
static const anm_fb_field boolean[] = {SCALAR(1, "bool_val")};
static const anm_fb_field floating[] = {SCALAR(8, "double_val")};
static const anm_fb_field string[] = {STRING("string_val")};
static const anm_fb_field list8[] = {VECTOR(8, "items")};
static const anm_fb_field list4[] = {VECTOR(4, "items")};
static const anm_fb_field list1[] = {VECTOR(1, "items")};
static const anm_fb_field tensor[] = {
    SCALAR(1, "scalar_type"), SCALAR(4, "storage_offset"), VECTOR(4, "sizes"), VECTOR(1, "dim_order"),
    SCALAR(1, "requires_grad"), SCALAR(4, "data_buffer_idx"), TABLE(T_ALLOCATION, "allocation_info"),
    SCALAR(1, "layout"), SCALAR(1, "shape_dynamism"), TABLE(T_EXTRA, "extra_tensor_info")};
static const anm_fb_field allocation[] = {SCALAR(4, "memory_id"), SCALAR(4, "memory_offset_low"),
                                          SCALAR(4, "memory_offset_high")};
static const anm_fb_field extra[] = {SCALAR(8, "mutable_data_segments_idx"), STRING("fully_qualified_name"),
                                     SCALAR(1, "location"), SCALAR(1, "device_type"), SCALAR(1, "device_index")};
static const anm_fb_field chain[] = {VECTOR(4, "inputs"), VECTOR(4, "outputs"), TABLES(T_INSTRUCTION, "instructions"),
                                     TABLES(T_FRAME_LIST, "stacktrace")};
static const anm_fb_field instruction[] = {UNION(U_CALLS, "instr_args")};
static const anm_fb_field kernel_call[] = {SCALAR(4, "op_index"), VECTOR(4, "args")};
static const anm_fb_field delegate_call[] = {SCALAR(4, "delegate_index"), VECTOR(4, "args")};
static const anm_fb_field move_call[] = {SCALAR(4, "move_from"), SCALAR(4, "move_to")};
static const anm_fb_field jump_call[] = {SCALAR(4, "cond_value_index"), SCALAR(4, "destination_instruction")};
static const anm_fb_field free_call[] = {SCALAR(4, "value_index")};
static const anm_fb_field frame_list[] = {TABLES(T_FRAME, "items")};
static const anm_fb_field frame[] = {STRING("filename"), SCALAR(4, "lineno"), STRING("name"), STRING("context")};
static const anm_fb_field operator_[] = {STRING("name"), STRING("overload")};
static const anm_fb_field delegate[] = {STRING("id"), TABLE(T_PROCESSED, "processed"), TABLES(T_SPEC, "compile_specs")};
static const anm_fb_field processed[] = {SCALAR(1, "location"), SCALAR(4, "index")};
static const anm_fb_field spec[] = {STRING("key"), VECTOR(1, "value")};
static const anm_fb_field device[] = {SCALAR(4, "buffer_idx"), SCALAR(1, "device_type"), SCALAR(1, "device_index")};
static const anm_fb_field bytes[] = {VECTOR(1, "storage")};
static const anm_fb_field inlined[] = {VECTOR(1, "data")};
static const anm_fb_field segment[] = {SCALAR(8, "offset"), SCALAR(8, "size")};
static const anm_fb_field subsegment[] = {SCALAR(4, "segment_index"), VECTOR(8, "offsets")};
static const anm_fb_field named[] = {STRING("key"), SCALAR(4, "segment_index")};

#define TYPE(name, fields) {name, fields, (uint8_t)(sizeof fields / sizeof fields[0])}

static const anm_fb_type types[] = {
    [T_PROGRAM] = TYPE("Program", program),
    [T_PLAN] = TYPE("ExecutionPlan", plan),
    [T_CONTAINER] = TYPE("ContainerMetadata", container),
    [T_VALUE] = TYPE("EValue", value),
    [T_NULL] = {"Null", NULL, 0},
    [T_INT] = TYPE("Int", integer),
    [T_BOOL] = TYPE("Bool", boolean),
    [T_DOUBLE] = TYPE("Double", floating),
    [T_TENSOR] = TYPE("Tensor", tensor),
    [T_STRING] = TYPE("String", string),
    [T_INT_LIST] = TYPE("IntList", list8),
    [T_DOUBLE_LIST] = TYPE("DoubleList", list8),
    [T_BOOL_LIST] = TYPE("BoolList", list1),
    [T_TENSOR_LIST] = TYPE("TensorList", list4),
    [T_OPTIONAL_LIST] = TYPE("OptionalTensorList", list4),
    [T_ALLOCATION] = TYPE("AllocationDetails", allocation),
    [T_EXTRA] = TYPE("ExtraTensorInfo", extra),
    [T_CHAIN] = TYPE("Chain", chain),
    [T_INSTRUCTION] = TYPE("Instruction", instruction),
    [T_KERNEL_CALL] = TYPE("KernelCall", kernel_call),
    [T_DELEGATE_CALL] = TYPE("DelegateCall", delegate_call),
    [T_MOVE_CALL] = TYPE("MoveCall", move_call),
    [T_JUMP_CALL] = TYPE("JumpFalseCall", jump_call),
    [T_FREE_CALL] = TYPE("FreeCall", free_call),
    [T_FRAME_LIST] = TYPE("FrameList", frame_list),
    [T_FRAME] = TYPE("Frame", frame),
    [T_OPERATOR] = TYPE("Operator", operator_),
    [T_DELEGATE] = TYPE("BackendDelegate", delegate),
    [T_PROCESSED] = TYPE("BackendDelegateDataReference", processed),
    [T_SPEC] = TYPE("CompileSpec", spec),
    [T_DEVICE] = TYPE("NonConstBufferDevice", device),
    [T_BUFFER] = TYPE("Buffer", bytes),
    [T_INLINE] = TYPE("BackendDelegateInlineData", inlined),
    [T_SEGMENT] = TYPE("DataSegment", segment),
    [T_SUBSEGMENT] = TYPE("SubsegmentOffsets", subsegment),
    [T_NAMED] = TYPE("NamedData", named),
};

static const uint8_t kinds[] = {T_NULL, T_INT, T_BOOL, T_DOUBLE, T_TENSOR, T_STRING, T_INT_LIST, T_DOUBLE_LIST,
                                T_BOOL_LIST, T_TENSOR_LIST, T_OPTIONAL_LIST};
static const uint8_t calls[] = {T_KERNEL_CALL, T_DELEGATE_CALL, T_MOVE_CALL, T_JUMP_CALL, T_FREE_CALL};
static const anm_fb_union unions[] = {[U_KINDS] = {kinds, sizeof kinds}, [U_CALLS] = {calls, sizeof calls}};

const anm_fb_schema anm_pte_schema = {types, unions, "ET12", T_PROGRAM};

/* schema/scalar_type.fbs */
static const struct {
    uint8_t scalar;
    anm_dtype dtype;
} scalars[] = {{0, ANM_DT_U8},  {1, ANM_DT_I8},    {2, ANM_DT_I16},  {3, ANM_DT_I32},  {4, ANM_DT_I64},
               {5, ANM_DT_F16}, {6, ANM_DT_F32},   {7, ANM_DT_F64},  {11, ANM_DT_BOOL}, {15, ANM_DT_BF16},
               {27, ANM_DT_U16}, {28, ANM_DT_U32}, {29, ANM_DT_U64}};

int anm_pte_scalar_of(anm_dtype t)
{
    for (unsigned i = 0; i < sizeof scalars / sizeof scalars[0]; i++)
        if (scalars[i].dtype == t) return scalars[i].scalar;
    return -1;
}

anm_dtype anm_pte_dtype_of(int scalar)
{
    for (unsigned i = 0; i < sizeof scalars / sizeof scalars[0]; i++)
        if (scalars[i].scalar == scalar) return scalars[i].dtype;
    return ANM_DT_NONE;
}
