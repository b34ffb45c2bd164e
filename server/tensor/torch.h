// The door to LibTorch: the one header through which the project sees it, precompiled.
//
// Stay on API that both LibTorch 1.13 and 2.x have; a difference between them goes in here.
#pragma once

// clang 14 with libstdc++ 12 in C++20 needs ivalue.h before torch.h.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <ATen/core/ivalue.h>
#include <c10/core/InferenceMode.h>
#include <torch/torch.h>
