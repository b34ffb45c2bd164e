// Owns the precompiled torch header that all other targets reuse.
#include "server/tensor/torch.h"
