#include "server/model/transformer.h"
