// The inner loops of causal attention on the CPU, compiled for several instruction sets.
#pragma once

#include <cstdint>
#include <vector>

namespace featurescope {

// Where one sequence's float32 values lie. Strides are in floats, from token to token; within a
// token the heads lie one behind the other. The queries are the last n_queries of the n_keys.
struct AttentionSequence {
  const float* q = nullptr;
  const float* k = nullptr;
  const float* v = nullptr;
  float* z = nullptr;
  int64_t q_stride = 0;
  int64_t k_stride = 0;
  int64_t v_stride = 0;
  int64_t z_stride = 0;
  int64_t n_queries = 0;
  int64_t n_keys = 0;  // >= n_queries
};

// What a model does to the products of queries and keys before the softmax.
struct ScoreMaths {
  float scale = 1;     // the products are multiplied by it
  float soft_cap = 0;  // then scores become cap tanh(scores / cap); 0: they do not
  int64_t window = 0;  // a query sees that many keys, the last ones up to its own; 0: all of these
};

// Scratch memory of one thread, reused from head to head.
struct AttentionBuffers {
  std::vector<float> keys;
  std::vector<float> values;
  std::vector<float> queries;
  std::vector<float> weights;
};

// z[:, head] = softmax(mask(cap(scale q[:, head] k[:, kv_head]^T))) v[:, kv_head].
void AttendHead(const AttentionSequence& sequence, const ScoreMaths& maths, int64_t head,
                int64_t kv_head, int64_t d_head, AttentionBuffers* buffers);

}  // namespace featurescope
