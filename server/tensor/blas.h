// The BLAS library that LibTorch's matrix products run on.
#pragma once

#include <string>

namespace featurescope {

struct BlasLibrary {
  std::string name;     // e.g. "OpenBLAS 0.3.21"; "reference BLAS" is the slow one
  std::string kernels;  // the processor whose kernels OpenBLAS chose, e.g. "SkylakeX"; or empty
};
BlasLibrary DescribeBlas();

// Makes OpenBLAS use kernels that suit the processor where it does not know it: a release takes
// processors newer than itself for one of 2004 (Prescott, SSE3), which is more than ten times
// slower. A choice made by the environment variable OPENBLAS_CORETYPE is left alone.
//
// Runs by itself before main() in every program that links tensor/, because OpenBLAS must not be in
// use meanwhile. Returns whether it changed anything.
bool CorrectBlasKernels();

}  // namespace featurescope
