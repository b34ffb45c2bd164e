// What people ask of an index beyond its rows: examples with their band, in a window of the asked
// size.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/store/index_db.h"

namespace featurescope {

struct ExampleQuery {
  uint32_t feature = 0;
  bool bands = false;       // samples of every band, the highest first; else the strongest
  uint32_t window = 0;      // tokens on each side; 0: all that the index holds
  uint32_t page_size = 20;  // 1 to 100; of each band where `bands`
};

struct IndexedExample {
  BandRow band;  // of the strongest: (0, max], with everything in it
  ExampleRow example;
};

// The feature's examples; none where it never fired.
//
//   errors  OutOfRange       feature >= d_sae
//           InvalidArgument  page_size
absl::StatusOr<std::vector<IndexedExample>> ListExamples(const IndexReader& index,
                                                         const ExampleQuery& query);

// Cuts the example down to `window` tokens on each side of its centre; wider than it is: no change.
void CutWindow(uint32_t window, ExampleRow* example);

}  // namespace featurescope
