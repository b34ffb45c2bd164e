// A tiny real model and a corpus of random tokens, for tests of training runs.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "server/base/hash.h"
#include "server/train/spec.h"
#include "tests/base/temp_dir.h"

namespace featurescope {

// The model of tests/golden/lm/gpt2 and a hook point of it; no corpus.
inline TrainingInputs TinyModelInputs() {
  TrainingInputs inputs;
  inputs.model = Transformer::Load(std::string(FEATURESCOPE_SOURCE_DIR) + "/tests/golden/lm/gpt2",
                                   LoadOptions())
                     .value();
  inputs.hook = HookPoint::Parse("blocks.1.hook_resid_post").value();
  inputs.model_name = "tiny";
  return inputs;
}

// The same and a corpus of `n_tokens` in contexts of 16, BOS first; a
// share of them held out.
inline TrainingInputs TinyInputs(const std::string& corpus_dir, int n_tokens = 600,
                                 double held_out = 0) {
  TrainingInputs inputs = TinyModelInputs();
  TokenFileSpec spec;
  spec.vocab_size = static_cast<uint32_t>(inputs.model->config().d_vocab);
  spec.context_size = 16;
  spec.prepend_bos = true;
  spec.holdout = held_out;
  spec.bos_id = 0;
  TokenFileWriter writer = TokenFileWriter::Create(corpus_dir, spec).value();
  std::vector<uint32_t> ids;
  for (int i = 0; i < n_tokens; ++i) {
    ids.push_back(1 +
                  static_cast<uint32_t>(Mix64(static_cast<uint64_t>(i)) % (spec.vocab_size - 1)));
  }
  const auto n_held = static_cast<int64_t>(held_out * n_tokens);
  const std::vector<uint32_t> held(ids.end() - n_held, ids.end());
  ids.resize(ids.size() - held.size());
  EXPECT_TRUE(writer.AppendDocument(ids).ok());
  if (!held.empty()) EXPECT_TRUE(writer.AppendDocument(held, /*held_out=*/true).ok());
  EXPECT_TRUE(writer.Finish().ok());
  inputs.corpus = TokenFile::Open(corpus_dir).value();
  return inputs;
}

inline TrainingSpec TinySpec() {
  TrainingSpec spec;
  spec.architecture = "topk";
  spec.d_sae = 96;
  spec.k = 4;
  spec.batch_size = 32;
  spec.tokens = 32 * 40;
  spec.buffer_tokens = 128;
  spec.dead_after_tokens = 200;
  spec.seed = 3;
  return spec;
}

}  // namespace featurescope
