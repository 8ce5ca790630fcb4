// One step of an element-wise optimizer, recorded from its formula. A block of threads does a chunk.
struct Chunk {
    float *theta;
    const float *gradient;
    float *state[4];
    float *direction;
    unsigned int length;
    unsigned int tensor;
};

extern "C" __global__ void np_step(const Chunk *chunks, const float *arguments) {
    const Chunk chunk = chunks[blockIdx.x];
    float *__restrict__ const theta = chunk.theta;
    const float *__restrict__ const gradient = chunk.gradient;
    float *__restrict__ const state0 = chunk.state[0];
    const float *__restrict__ const a = arguments + 7ull * chunk.tensor;
    const float v3 = a[0];
    const float v4 = a[1];
    const float v5 = a[2];
    const float v6 = a[3];
    const float v11 = a[4];
    const float v12 = a[5];
    const float v13 = a[6];
    for (unsigned int i = threadIdx.x; i < chunk.length; i += blockDim.x) {
        const float v0 = state0[i];
        const float v1 = theta[i];
        const float v2 = gradient[i];
        const float v7 = __fmul_rn(v5, v2);
        const float v8 = -v6;
        const float v9 = v7 < v8 ? v8 : v7;
        const float v10 = v6 < v9 ? v6 : v9;
        const float v14 = __fmul_rn(v11, v1);
        const float v15 = __fadd_rn(v10, v14);
        const float v16 = __fmul_rn(v3, v0);
        const float v17 = __fmul_rn(v4, v15);
        const float v18 = __fadd_rn(v16, v17);
        const float v19 = __fmul_rn(v12, v1);
        const float v20 = __fmul_rn(v13, v18);
        const float v21 = __fsub_rn(v19, v20);
        theta[i] = v21;
        state0[i] = v18;
    }
}
