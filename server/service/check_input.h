// What CheckSae looks at: the client's text, contexts of a corpus, or a passage of our own.
#pragma once

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "featurescope/v1/explore.pb.h"
#include "server/catalog/catalog.h"
#include "server/explore/check_sae.h"

namespace featurescope {

// Fills in texts, bos and with_bos. REQUIRES: question->model and question->sae are set.
//
//   model    the row of question->model
//   sae      the row of question->sae: its context size bounds a text's length
//   errors   those of TokenIdsOf, and of the catalog for a corpus
//            InvalidArgument     max_tokens out of range
//            FailedPrecondition  the corpus was made with another tokenizer
absl::Status FillCheckInput(const v1::CheckSaeRequest& request, const ModelRow& model,
                            const SaeRow& sae, Catalog* catalog, CheckSaeRequest* question);

}  // namespace featurescope
