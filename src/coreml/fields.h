/* SPDX-License-Identifier: BSD-3-Clause */
/* The field numbers and enumerators that are read and written. Source: apple/coremltools mlmodel/format/Model.proto,
 * MIL.proto, FeatureTypes.proto; blob types: mlmodel/src/MILBlob/Blob/{BlobDataType,StorageFormat}.hpp. */
#ifndef ANM_COREML_FIELDS_H
#define ANM_COREML_FIELDS_H

#include "base/dtype.h"

#include <stdint.h>

enum { MAP_KEY = 1, MAP_VALUE = 2 };

enum { MODEL_VERSION = 1, MODEL_DESCRIPTION = 2, MODEL_PROGRAM = 502 };
enum { DESCRIPTION_INPUT = 1, DESCRIPTION_OUTPUT = 10, DESCRIPTION_STATE = 13, DESCRIPTION_FUNCTION = 20,
       DESCRIPTION_DEFAULT = 21, DESCRIPTION_METADATA = 100 };
enum { FUNCTION_DESCRIPTION_NAME = 1, FUNCTION_DESCRIPTION_INPUT = 2, FUNCTION_DESCRIPTION_OUTPUT = 3 };
enum { METADATA_USER = 100 };
enum { FEATURE_NAME = 1, FEATURE_TYPE = 3 };
enum { FEATURE_TYPE_ARRAY = 5 };
enum { ARRAY_SHAPE = 1, ARRAY_DTYPE = 2 };
enum { ARRAY_FLOAT16 = 65552, ARRAY_FLOAT32 = 65568, ARRAY_INT8 = 131080, ARRAY_INT32 = 131104 };

enum { PROGRAM_VERSION = 1, PROGRAM_FUNCTIONS = 2 };
enum { FUNCTION_INPUTS = 1, FUNCTION_OPSET = 2, FUNCTION_BLOCKS = 3 };
enum { BLOCK_INPUTS = 1, BLOCK_OUTPUTS = 2, BLOCK_OPERATIONS = 3 };
enum { OPERATION_TYPE = 1, OPERATION_INPUTS = 2, OPERATION_OUTPUTS = 3, OPERATION_BLOCKS = 4, OPERATION_ATTRIBUTES = 5 };
enum { ARGUMENT_BINDINGS = 1 };
enum { BINDING_NAME = 1, BINDING_VALUE = 2 };
enum { NAMED_NAME = 1, NAMED_TYPE = 2 };
enum { TYPE_TENSOR = 1 };
enum { TENSOR_DTYPE = 1, TENSOR_RANK = 2, TENSOR_DIMENSIONS = 3 };
enum { DIMENSION_CONSTANT = 1, DIMENSION_UNKNOWN = 2 };
enum { CONSTANT_SIZE = 1 };
enum { UNKNOWN_VARIADIC = 1 };
enum { VALUE_TYPE = 2, VALUE_IMMEDIATE = 3, VALUE_BLOB = 5 };
enum { IMMEDIATE_TENSOR = 1 };
enum { BLOB_FILE = 1, BLOB_OFFSET = 2 };
enum { VALUES_FLOATS = 1, VALUES_INTS, VALUES_BOOLS, VALUES_STRINGS, VALUES_LONGS, VALUES_DOUBLES, VALUES_BYTES };
enum { REPEATED_VALUES = 1 };

#define ANM_WEIGHT_FILE "@model_path/weights/weight.bin"

/* The weight file: a header, then for each blob its metadata and its bytes, each at a multiple of 64. */
enum { BLOB_ALIGN = 64, BLOB_HEADER = 64, BLOB_METADATA = 64, BLOB_VERSION = 2 };
#define BLOB_SENTINEL 0xdeadbeefu

/* MIL's number of a type and the weight file's; 0: it has none. ANM_DT_NONE for an unknown number. */
uint32_t anm_coreml_dtype(anm_dtype t);
uint32_t anm_coreml_blob_dtype(anm_dtype t);
anm_dtype anm_coreml_dtype_of(uint64_t number);
/* The number in the description of an input or output; 0: none can be of this type. */
uint32_t anm_coreml_array_dtype(anm_dtype t);

#endif
