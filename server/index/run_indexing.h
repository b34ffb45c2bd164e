// The indexing job: one pass over a corpus that finds out what every feature of an SAE fires on.
//
//   tokens -> forward to the SAE's hook -> encode -> per-feature accumulators -> one index file
//
// A killed run continues from its last checkpoint, and the file then holds the same as without the
// kill. Special tokens (BOS, EOS, padding) take part in the forward pass and in nothing else: they
// are in no statistic and no example's centre, and activations on them are left out of the windows.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "server/base/hook_point.h"
#include "server/engine/run_context.h"
#include "server/formats/token_file.h"
#include "server/model/transformer.h"
#include "server/sae/sae.h"
#include "server/text/tokenizer.h"

namespace featurescope {

struct IndexSpec {
  uint64_t max_tokens = 0;         // of the corpus, from its beginning, in whole contexts; 0: all
  uint32_t top_examples = 20;      // contexts kept per feature, the strongest; 1 to 1000
  uint32_t bands = 10;             // intervals of equal width between 0 and the feature's maximum;
                                   // 1 to 50
  uint32_t examples_per_band = 5;  // tokens sampled per band; 0 (no bands' examples) to 100
  uint32_t window = 32;            // tokens on each side of an example's centre whose activations
                                   // are kept; 0 to 1024
  uint32_t logit_effects = 10;     // tokens kept at each end of a feature's logit effects; 0 to 100
  uint32_t decode_every = 1;       // every n-th context is decoded for the explained variance,
                                   // the first always; 1 to 1000000
  uint64_t seed = 0;               // of the bands' samples

  // Work between two checkpoints is what a crash can cost.
  absl::Duration checkpoint_interval = absl::Seconds(30);

  // Fills in what depends on the corpus (max_tokens) and checks every field.
  //   errors  InvalidArgument  naming the field, its value and the allowed range
  absl::Status Resolve(const TokenFile& corpus);
};

struct IndexInputs {
  std::string sae_id;
  std::string corpus_id;
  std::string model_id;
  std::shared_ptr<const Transformer> model;
  std::shared_ptr<const Sae> sae;
  HookPoint hook;  // what the SAE reads
  // What it writes: unset, the same. A transcoder is measured against this value.
  std::optional<HookPoint> hook_out;
  bool center_writing_weights = false;  // see server/catalog/hook_values.h
  std::shared_ptr<const TokenFile> corpus;
  // Names special tokens and gives the tokens' texts. Null for a model without one: then texts are
  // empty, and special are the ids that the model's configuration calls BOS or EOS.
  std::shared_ptr<const Tokenizer> tokenizer;

  HookPoint output_hook() const { return hook_out.value_or(hook); }
};

// The most that a run keeps in memory beside the model, the SAE and a few batches, in bytes: a
// function of d_sae and the spec, whatever the corpus. Sparse features stay far below it.
uint64_t IndexMemoryBound(int64_t d_sae, const IndexSpec& spec);

// Indexes the SAE over the corpus and writes the file at `output_path`, which appears complete or
// not at all. All computing happens on context.device in quanta; accumulating happens beside it, on
// the calling thread. Checkpoints go to context.work_dir (created when missing).
//
//   errors  InvalidArgument     a field of the spec, or a hook that the model does not have
//           FailedPrecondition  model, SAE and corpus do not fit together; the message says how
//           ResourceExhausted   the disk is full
//           Cancelled           after writing a checkpoint
absl::Status RunIndexing(const IndexInputs& inputs, const IndexSpec& spec,
                         const RunContext& context, const std::string& output_path);

}  // namespace featurescope
