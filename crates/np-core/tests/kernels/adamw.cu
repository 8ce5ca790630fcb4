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
    float *__restrict__ const state1 = chunk.state[1];
    const float *__restrict__ const a = arguments + 11ull * chunk.tensor;
    const float v4 = a[0];
    const float v5 = a[1];
    const float v6 = a[2];
    const float v7 = a[3];
    const float v8 = a[4];
    const float v9 = a[5];
    const float v10 = a[6];
    const float v11 = a[7];
    const float v12 = a[8];
    const float v17 = a[9];
    const float v18 = a[10];
    for (unsigned int i = threadIdx.x; i < chunk.length; i += blockDim.x) {
        const float v0 = state0[i];
        const float v1 = state1[i];
        const float v2 = theta[i];
        const float v3 = gradient[i];
        const float v13 = __fmul_rn(v11, v3);
        const float v14 = -v12;
        const float v15 = v13 < v14 ? v14 : v13;
        const float v16 = v12 < v15 ? v12 : v15;
        const float v19 = __fmul_rn(v4, v0);
        const float v20 = __fmul_rn(v6, v16);
        const float v21 = __fadd_rn(v19, v20);
        const float v22 = __fmul_rn(v5, v1);
        const float v23 = __fmul_rn(v16, v16);
        const float v24 = __fmul_rn(v7, v23);
        const float v25 = __fadd_rn(v22, v24);
        const float v26 = __fmul_rn(v21, v8);
        const float v27 = __fsqrt_rn(v25);
        const float v28 = __fmul_rn(v27, v9);
        const float v29 = __fadd_rn(v28, v10);
        const float v30 = __fdiv_rn(v26, v29);
        const float v31 = __fmul_rn(v17, v2);
        const float v32 = __fmul_rn(v18, v30);
        const float v33 = __fsub_rn(v31, v32);
        theta[i] = v33;
        state0[i] = v21;
        state1[i] = v25;
    }
}
