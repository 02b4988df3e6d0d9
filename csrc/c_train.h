// Training through the C interface: what alexandra_train does with checked inputs.
#pragma once

#include "alexandra.h"
#include "c_model.h"

namespace alexandra {

#if !ALEXANDRA_INFERENCE_ONLY
void train(CModel& model, const alexandra_program& program, std::vector<Rows> inputs, const void* const* targets);
#endif

}  // namespace alexandra
