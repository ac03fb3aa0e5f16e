/* thinslice viewer, made from viewer/ by `make viewer`. Apache-2.0. */
"use strict";var ThinsliceViewer=(()=>{var ae=Object.defineProperty;var pt=Object.getOwnPropertyDescriptor;var mt=Object.getOwnPropertyNames;var ft=Object.prototype.hasOwnProperty;var yt=(n,e)=>{for(var t in e)ae(n,t,{get:e[t],enumerable:!0})},bt=(n,e,t,r)=>{if(e&&typeof e=="object"||typeof e=="function")for(let o of mt(e))!ft.call(n,o)&&o!==t&&ae(n,o,{get:()=>e[o],enumerable:!(r=pt(e,o))||r.enumerable});return n};var wt=n=>bt(ae({},"__esModule",{value:!0}),n);var un={};yt(un,{GraphicsError:()=>v,GridError:()=>A,Viewer:()=>B,createViewer:()=>se,openEmbedded:()=>ht,unpackVoxels:()=>U});var A=class extends Error{name="GridError"};function x(n){let[e,t,r]=n.spacingMm;return[e,t??1,r??1]}function R(n,e){return[n.direction[0][e],n.direction[1][e],n.direction[2][e]]}function C(n,e){return n[0]*e[0]+n[1]*e[1]+n[2]*e[2]}function L(n,e){let t=x(n),r=o=>n.originMm[o]+n.direction[o][0]*t[0]*e[0]+n.direction[o][1]*t[1]*e[1]+n.direction[o][2]*t[2]*e[2];return[r(0),r(1),r(2)]}function le(n,e){let t=x(n),r=[e[0]-n.originMm[0],e[1]-n.originMm[1],e[2]-n.originMm[2]],o=i=>C(r,R(n,i))/t[i];return[o(0),o(1),o(2)]}function Se(n,e){let t=r=>Math.min(Math.max(e[r],0),n.shape[r]-1);return[t(0),t(1),t(2)]}function ce(n,e){if(n.shape[1]!==e.shape[1]||n.shape[2]!==e.shape[2])throw new A("The thick and the thin volume have different numbers of rows or columns.");let t=le(n,e.originMm)[0],r=x(e)[0]/x(n)[0],[o,i]=[e.shape[1]-1,e.shape[2]-1];for(let[a,s]of[[0,0],[0,i],[o,0]])for(let l of[0,e.shape[0]-1]){let d=L(e,[l,a,s]),h=L(n,[t+r*l,a,s]);if(Math.hypot(d[0]-h[0],d[1]-h[1],d[2]-h[2])>.1)throw new A("The thick and the thin volume do not lie on one grid of rows and columns.")}return{start:t,step:r}}function de(n){let[e,t,r]=n.shape;if(![e,t,r].every(o=>Number.isInteger(o)&&o>=1))throw new A("A volume needs at least one voxel along each axis.");if(!x(n).every(o=>Number.isFinite(o)&&o>0))throw new A("The distance of voxels must be positive.");for(let o of[0,1,2])for(let i of[0,1,2]){let a=C(R(n,o),R(n,i));if(!(Math.abs(a-(o===i?1:0))<.001))throw new A("The axes of the volume are not orthonormal; resample it first.")}}function U(n,e,t,r){let o=new Int16Array(e),i=t*r,a=e,s=new Int16Array(r);for(let l=0;l<e;l+=r){l%i===0&&s.fill(0);let d=0;for(let h=0;h<r;h++){let u=n[l+h];u===255&&(u=n[a]|n[a+1]<<8,a+=2),d+=u>>1^-(u&1),s[h]+=d,o[l+h]=s[h]}if(!(l<i))for(let h=l,u=l-i;h<l+r;h++,u++)o[h]+=o[u]}return o}var gt={deviation:[[0,0,4],[40,11,84],[101,21,110],[159,42,99],[212,72,66],[245,125,21],[250,193,39],[252,255,164]],difference:[[160,220,255],[60,150,240],[20,70,160],[24,24,28],[160,70,10],[240,140,30],[255,220,140]]};function Ee(n,e){let t=gt[n],r=Math.min(Math.max(e,0),1)*(t.length-1),o=Math.min(Math.floor(r),t.length-2),i=a=>Math.round(t[o][a]*(1-r+o)+t[o+1][a]*(r-o));return[i(0),i(1),i(2)]}function ke(n,e){return n==="deviation"?[0,e/2,e]:[-e,0,e]}var H=256;function Te(){let n=new Uint8Array(2*H*4);return["deviation","difference"].forEach((e,t)=>{for(let r=0;r<H;r++)n.set([...Ee(e,r/(H-1)),255],(t*H+r)*4)}),n}function Pe(n){return`linear-gradient(to right, ${Array.from({length:13},(t,r)=>`rgb(${Ee(n,r/12).join(",")})`).join(", ")})`}function xt(n){let e=new Float64Array(Math.max(n,0));for(let t=0;t<n;t++)e[t]=1/(4-(t>0?e[t-1]:0));return e}function Ae(n,e){let t=n.length/e,r=new Float32Array(n.length);if(e<3)return r;let o=e-1,i=(s,l)=>n[(s-1)*t+l]-2*n[s*t+l]+n[(s+1)*t+l];for(let s of new Set([1,o-1]))for(let l=0;l<t;l++)r[s*t+l]=i(s,l);let a=xt(o-3);for(let s=2;s<=o-2;s++){let l=a[s-2];for(let d=0;d<t;d++){let h=s*t+d;r[h]=(6*i(s,d)-r[h-t])*l}}for(let s=o-2;s>=2;s--){let l=a[s-2];for(let d=0;d<t;d++){let h=s*t+d;r[h]-=l*r[h+t]}}for(let s=0;s<t;s++){let l=o*t+s;r[s]=e===3?r[t+s]:2*r[t+s]-r[2*t+s],r[l]=e===3?r[l-t]:2*r[l-t]-r[l-2*t]}return r}var Ve=["thick","linear","cubic","thin","difference","deviation"],D=[-1024,2048],Re=1e-4;function vt(n){return Math.min(Math.max(n,D[0]),D[1])}function Ne(n,e){return e!==null&&n===e?D[0]:vt(n)}function Ce(n){return[n.mode,n.overlay,n.isSlab,...n.mixes,n.encodes].join(" ")}var De=`#version 300 es
void main() {
  vec2 corner = vec2((gl_VertexID << 1) & 2, gl_VertexID & 2);
  gl_Position = vec4(corner * 2.0 - 1.0, 0.0, 1.0);
}`,he=n=>Number.isInteger(n)?`${n}.0`:String(n),z=n=>n[0].toUpperCase()+n.slice(1);function Ie(n){let e=n.overlay===null?[n.mode]:[n.mode,n.overlay],t=new Set(e.flatMap(r=>r==="difference"?["thin","cubic"]:[r]));return[Mt,...[...t].map(r=>St[r]),...[...t].map(r=>`${Et(r,n)}
${kt(r,n)}`),...e.includes("difference")?[Tt]:[],Pt(n)].join(`
`)}var Mt=`#version 300 es
precision highp float;
precision highp int;
precision highp isampler3D;
precision highp sampler3D;

const float MISSING = -1.0e6;      // at or below: there is no value
const float TOLERANCE = ${he(Re)};
const float LOW = ${he(D[0])}, HIGH = ${he(D[1])};

uniform isampler3D uThick, uThin, uDeviation;
uniform sampler3D uMoments;
uniform sampler2D uColours;
uniform ivec3 uThickSize, uThinSize;
uniform vec2 uDepthMap;             // start, step: thin slice j lies at thick index start + step * j
uniform ivec3 uReady;               // slices of thick, thin and deviation that have arrived
uniform bool uHasMoments;
uniform int uPadding;               // HU, or a number that no voxel has
uniform float uDeviationStep;

uniform vec2 uPane;                 // lower left corner of the pane, pixels
uniform vec3 uOrigin, uAcross, uUp; // thin index of the pane's first pixel, and of a step right and up
uniform int uSlabSteps;
uniform bool uSlabMaximum;
uniform vec3 uSlabStep;
uniform vec2 uWindow;               // lower border, width
uniform vec2 uMost;                 // ends of the scales of deviations and differences, HU
uniform float uOpacity;

out vec4 colour;

float insideWindow(float hu) { return clamp(hu, LOW, HIGH); }

float networkInput(int hu) { return hu == uPadding ? LOW : insideWindow(float(hu)); }

float excess(int hu) { return hu == uPadding ? 0.0 : float(hu) - insideWindow(float(hu)); }

// Place of a thin slice among thick ones.
struct Between { int below, upper, nearest; float share; bool exists; };

Between between(int slice) {
  int slices = uThickSize.z;
  float at = uDepthMap.x + uDepthMap.y * float(slice);
  float inside = clamp(at, 0.0, float(slices - 1));
  Between place;
  place.below = min(int(floor(inside + TOLERANCE)), max(slices - 2, 0));
  place.upper = min(place.below + 1, slices - 1);
  place.share = clamp(inside - float(place.below), 0.0, 1.0);
  place.nearest = min(int(floor(inside + 0.5 + TOLERANCE)), slices - 1);
  place.exists = at >= -0.5 - TOLERANCE && at <= float(slices) - 0.5 + TOLERANCE;
  return place;
}

// What interpolation made, with what the thick voxels have beyond the networks' window, and padding.
float restored(float made, Between place, int y0, int y1) {
  float e0 = excess(y0), e1 = excess(y1);
  bool isLower = place.nearest == place.below;
  bool owned = abs(place.share - 0.5) < TOLERANCE ? e0 != 0.0 && e1 != 0.0 : (isLower ? e0 : e1) != 0.0;
  int nearest = isLower ? y0 : y1;
  float value = owned ? made + e0 * (1.0 - place.share) + e1 * place.share : made;
  value = nearest == uPadding ? float(nearest) : value;
  return place.exists && place.upper < uReady.x ? value : MISSING;
}

// Blends two values; a missing one makes the result missing where it has weight.
float blend(float a, float b, float share) {
  float value = share < TOLERANCE ? a : mix(a, b, share);
  return share >= TOLERANCE && min(a, b) <= MISSING ? MISSING : value;
}

bool isOutside(vec3 place) {
  return any(lessThan(place, vec3(-0.5))) || any(greaterThan(place, vec3(uThinSize) - 0.5));
}
`,St={thick:`
float voxelThick(ivec3 voxel) {
  Between place = between(voxel.z);
  float value = float(texelFetch(uThick, ivec3(voxel.xy, place.nearest), 0).r);
  return place.exists && place.nearest < uReady.x ? value : MISSING;
}`,linear:`
float voxelLinear(ivec3 voxel) {
  Between place = between(voxel.z);
  int y0 = texelFetch(uThick, ivec3(voxel.xy, place.below), 0).r;
  int y1 = texelFetch(uThick, ivec3(voxel.xy, place.upper), 0).r;
  return restored(mix(networkInput(y0), networkInput(y1), place.share), place, y0, y1);
}`,cubic:`
float voxelCubic(ivec3 voxel) {
  Between place = between(voxel.z);
  ivec3 lower = ivec3(voxel.xy, place.below), upper = ivec3(voxel.xy, place.upper);
  int y0 = texelFetch(uThick, lower, 0).r, y1 = texelFetch(uThick, upper, 0).r;
  float m0 = texelFetch(uMoments, lower, 0).r, m1 = texelFetch(uMoments, upper, 0).r;
  float share = place.share, rest = 1.0 - share;
  float made = rest * networkInput(y0) + share * networkInput(y1)
    + ((rest * rest * rest - rest) * m0 + (share * share * share - share) * m1) / 6.0;
  return uHasMoments ? restored(insideWindow(made), place, y0, y1) : MISSING;
}`,thin:`
float voxelThin(ivec3 voxel) {
  return voxel.z < uReady.y ? float(texelFetch(uThin, voxel, 0).r) : MISSING;
}`,deviation:`
float voxelDeviation(ivec3 voxel) {
  return voxel.z < uReady.z ? float(texelFetch(uDeviation, voxel, 0).r) * uDeviationStep : MISSING;
}`};function Et(n,e){let t=z(n),[r,o,i]=e.mixes,a=n==="thick",s=(u,c,f)=>`voxel${t}(ivec3(${u}.x, ${c}.y, ${f}.z))`,l=(u,c)=>i?`blend(${s("low",u,c)}, ${s("high",u,c)}, share.x)`:s("low",u,c),d=u=>o?`blend(${l("low",u)}, ${l("high",u)}, share.y)`:l("low",u),h=r&&!a?`blend(${d("low")}, ${d("high")}, share.z)`:d("low");return`
float mixed${t}(vec3 place) {
  vec3 inside = clamp(place, vec3(0.0), vec3(uThinSize - 1));
  ivec3 low = ivec3(floor(inside + TOLERANCE));
  vec3 share = clamp(inside - vec3(low), 0.0, 1.0);
  ivec3 high = min(low + 1, uThinSize - 1);
  ${a?"low.z = int(floor(inside.z + 0.5));":""}
  return ${h};
}`}function kt(n,e){let t=z(n);return e.isSlab?`
float at${t}(vec3 place) {
  float total = 0.0, most = MISSING, count = 0.0;
  bool isMissing = false;
  for (int step = 0; step < uSlabSteps; step++) {
    vec3 there = place + float(step - (uSlabSteps - 1) / 2) * uSlabStep;
    float value = mixed${t}(there);
    if (!isOutside(there)) {
      isMissing = isMissing || value <= MISSING;
      total += value;
      most = max(most, value);
      count += 1.0;
    }
  }
  return isMissing || count == 0.0 ? MISSING : uSlabMaximum ? most : total / count;
}`:`float at${t}(vec3 place) { return mixed${t}(place); }`}var Tt=`
float atDifference(vec3 place) {
  float thin = atThin(place), cubic = atCubic(place);
  return thin <= MISSING || cubic <= MISSING ? MISSING : thin - cubic;
}`,Le=["0.1","0.7"],He=n=>n==="deviation"?"scaleColour(clamp(VALUE / uMost.x, 0.0, 1.0), 0.25)":"scaleColour(clamp(0.5 + 0.5 * VALUE / uMost.y, 0.0, 1.0), 0.75)";function Pt(n){let{mode:e,overlay:t}=n,r=e==="difference"||e==="deviation",o=r?He(e).replace("VALUE","value"):"vec3(clamp((value - uWindow.x) / uWindow.y, 0.0, 1.0))",i=t===null||r?"":`
  float over = at${z(t)}(place);
  float size = abs(over) / uMost.${t==="deviation"?"x":"y"};
  float weight = over <= MISSING ? 0.0 : uOpacity * smoothstep(${Le[0]}, ${Le[1]}, size);
  shown = mix(shown, ${He(t).replace("VALUE","over")}, weight);`,a=n.encodes?`
  // 24 bits: 1/256 HU from -32768 on; alpha 0 stands for no value.
  int code = int(round((value + 32768.0) * 256.0));
  vec4 bytes = vec4(float(code & 255), float((code >> 8) & 255), float((code >> 16) & 255), 255.0) / 255.0;
  colour = outside || value <= MISSING ? vec4(0.0) : bytes;`:`
  vec3 shown = ${o};${i}
  float stripe = mod(gl_FragCoord.x + gl_FragCoord.y, 16.0) < 8.0 ? 0.09 : 0.13;
  shown = value <= MISSING ? vec3(stripe, stripe, stripe * 1.25) : shown;
  colour = vec4(outside ? vec3(0.0) : shown, 1.0);`;return`
vec3 scaleColour(float share, float row) {
  return texture(uColours, vec2((share * 255.0 + 0.5) / 256.0, row)).rgb;
}

void main() {
  vec2 pixel = gl_FragCoord.xy - uPane - 0.5;
  vec3 place = uOrigin + uAcross * pixel.x + uUp * pixel.y;
  bool outside = isOutside(place);
  float value = at${z(e)}(place);${a}
}`}var v=class extends Error{name="GraphicsError"},K={thick:0,thin:1,deviation:2,moments:3,colours:4},At=-2147483647,I=class{constructor(e,t){this.canvas=e;this.scene=t;this.gl=$e(e);let{gl:r}=this;r.pixelStorei(r.UNPACK_ALIGNMENT,2);let o=[1,1,1];this.volumeTexture("thick",t.thickShape,r.R16I),this.volumeTexture("thin",t.hasThin?t.thinShape:o,r.R16I),this.volumeTexture("deviation",t.hasDeviation?t.thinShape:o,r.R16I),this.volumeTexture("moments",o,r.R32F),this.colourTexture();let i=r.getError();if(i!==r.NO_ERROR)throw this.dispose(),new v(i===r.OUT_OF_MEMORY?"The volumes do not fit into the graphics memory.":`The graphics driver refused the volumes (error ${i}).`)}canvas;scene;gl;programs=new Map;ready={thick:0,thin:0,deviation:0};hasMoments=!1;textures=[];static longestAxis(e){let t=$e(e);return t.getParameter(t.MAX_3D_TEXTURE_SIZE)}get isLost(){return this.gl.isContextLost()}dispose(){for(let e of this.textures)this.gl.deleteTexture(e);for(let{handle:e}of this.programs.values())this.gl.deleteProgram(e)}upload(e,t,r,o){let{gl:i}=this,[,a,s]=e==="thick"?this.scene.thickShape:this.scene.thinShape;i.activeTexture(i.TEXTURE0+K[e]);let l=r.length/(a*s);i.texSubImage3D(i.TEXTURE_3D,0,0,0,t,s,a,l,i.RED_INTEGER,i.SHORT,r),this.ready[e]=o}uploadMoments(e){let{gl:t}=this,[r,o,i]=this.scene.thickShape;this.volumeTexture("moments",this.scene.thickShape,t.R32F),t.texSubImage3D(t.TEXTURE_3D,0,0,0,0,i,o,r,t.RED,t.FLOAT,e),this.hasMoments=!0}get hasCubic(){return this.hasMoments}clear(){let{gl:e}=this;e.disable(e.SCISSOR_TEST),e.clearColor(0,0,0,1),e.clear(e.COLOR_BUFFER_BIT),e.enable(e.SCISSOR_TEST)}draw(e,t,r=!1){let{gl:o}=this,{x:i,y:a,width:s,height:l}=e;o.viewport(i,a,s,l);let d=Math.min(Math.max(Math.round(t.divider),0),s),h=t.left===t.right?[0,s]:[0,d,s];for(let u=0;u+1<h.length;u++){let c=u===0&&d>0?t.left:t.right;h[u]!==h[u+1]&&(this.use(t,c,e,r),o.scissor(i+h[u],a,h[u+1]-h[u],l),o.drawArrays(o.TRIANGLES,0,3))}}values(e,t,r){let{gl:o}=this,i=r*e.length,a=o.createFramebuffer(),s=o.createRenderbuffer();o.bindFramebuffer(o.FRAMEBUFFER,a),o.bindRenderbuffer(o.RENDERBUFFER,s),o.renderbufferStorage(o.RENDERBUFFER,o.RGBA8,t,i),o.framebufferRenderbuffer(o.FRAMEBUFFER,o.COLOR_ATTACHMENT0,o.RENDERBUFFER,s),e.forEach((d,h)=>{this.draw({x:0,y:h*r,width:t,height:r},d,!0)});let l=new Uint8Array(t*i*4);return o.readPixels(0,0,t,i,o.RGBA,o.UNSIGNED_BYTE,l),o.bindFramebuffer(o.FRAMEBUFFER,null),o.deleteRenderbuffer(s),o.deleteFramebuffer(a),e.map((d,h)=>Rt(l,t,h*r,r))}use(e,t,r,o){let{gl:i,scene:a}=this,s=this.programOf({mode:t,overlay:o||t==="difference"||t==="deviation"?null:e.overlay,isSlab:e.slabSteps>1,mixes:[ue(e,0),ue(e,1),ue(e,2)],encodes:o});i.useProgram(s.handle);let l=h=>{let u=s.places.get(h);return u===void 0&&(u=i.getUniformLocation(s.handle,h),s.places.set(h,u)),u},d=(h,u)=>{i.uniform3f(l(h),u[2],u[1],u[0])};for(let[h,u]of Object.entries(K))i.uniform1i(l(`u${h[0].toUpperCase()}${h.slice(1)}`),u);i.uniform3i(l("uThickSize"),a.thickShape[2],a.thickShape[1],a.thickShape[0]),i.uniform3i(l("uThinSize"),a.thinShape[2],a.thinShape[1],a.thinShape[0]),i.uniform2f(l("uDepthMap"),a.depth.start,a.depth.step),i.uniform1i(l("uPadding"),a.paddingHu??At),i.uniform1f(l("uDeviationStep"),a.deviationStepHu),i.uniform1i(l("uHasMoments"),this.hasMoments?1:0),i.uniform3i(l("uReady"),this.ready.thick,this.ready.thin,this.ready.deviation),i.uniform2f(l("uPane"),r.x,r.y),d("uOrigin",e.origin),d("uAcross",e.across),d("uUp",e.up),i.uniform1i(l("uSlabSteps"),e.slabSteps),i.uniform1i(l("uSlabMaximum"),e.slabMaximum?1:0),d("uSlabStep",e.slabStep),i.uniform2f(l("uWindow"),e.windowLowHu,e.windowWidthHu),i.uniform2f(l("uMost"),e.mostDeviationHu,e.mostDifferenceHu),i.uniform1f(l("uOpacity"),e.opacity)}volumeTexture(e,t,r){let{gl:o}=this;o.activeTexture(o.TEXTURE0+K[e]);let i=o.createTexture();this.textures.push(i),o.bindTexture(o.TEXTURE_3D,i),o.texStorage3D(o.TEXTURE_3D,1,r,t[2],t[1],t[0]);for(let a of[o.TEXTURE_MIN_FILTER,o.TEXTURE_MAG_FILTER])o.texParameteri(o.TEXTURE_3D,a,o.NEAREST)}colourTexture(){let{gl:e}=this;e.activeTexture(e.TEXTURE0+K.colours);let t=e.createTexture();this.textures.push(t),e.bindTexture(e.TEXTURE_2D,t),e.texStorage2D(e.TEXTURE_2D,1,e.RGBA8,H,2),e.texSubImage2D(e.TEXTURE_2D,0,0,0,H,2,e.RGBA,e.UNSIGNED_BYTE,Te());for(let r of[e.TEXTURE_MIN_FILTER,e.TEXTURE_MAG_FILTER])e.texParameteri(e.TEXTURE_2D,r,e.NEAREST);for(let r of[e.TEXTURE_WRAP_S,e.TEXTURE_WRAP_T])e.texParameteri(e.TEXTURE_2D,r,e.CLAMP_TO_EDGE)}programOf(e){let t=Ce(e),r=this.programs.get(t);if(r!==void 0)return r;let o={handle:Vt(this.gl,Ie(e)),places:new Map};return this.programs.set(t,o),o}};function ue(n,e){return[n.origin,n.across,n.up].some(t=>!Number.isInteger(t[e]))}function Vt(n,e){let t=n.createProgram();for(let[r,o]of[[n.VERTEX_SHADER,De],[n.FRAGMENT_SHADER,e]]){let i=n.createShader(r);if(i===null)throw new v("The graphics were reset; load the page again.");if(n.shaderSource(i,o),n.compileShader(i),n.getShaderParameter(i,n.COMPILE_STATUS)!==!0&&!n.isContextLost())throw new v(`The graphics driver refused a shader: ${n.getShaderInfoLog(i)??""}`);n.attachShader(t,i),n.deleteShader(i)}if(n.linkProgram(t),n.getProgramParameter(t,n.LINK_STATUS)!==!0&&!n.isContextLost())throw new v(`The graphics driver refused the shader: ${n.getProgramInfoLog(t)??""}`);return t}function $e(n){let e=n.getContext("webgl2",{antialias:!1,alpha:!1,depth:!1,stencil:!1});if(e===null)throw new v("This browser has no WebGL2, which the viewer needs. Use a current Firefox, Chrome, Edge or Safari, and allow hardware acceleration in its settings.");return e}function Rt(n,e,t,r){let o=new Float32Array(e*r);for(let i=0;i<r;i++)for(let a=0;a<e;a++){let s=((t+r-1-i)*e+a)*4,l=n[s]+n[s+1]*256+n[s+2]*65536;o[i*e+a]=n[s+3]===0?Number.NaN:l/256-32768}return o}function p(n,e={},...t){let r=document.createElement(n);return S(r,e),r.append(...t),r}function M(n,e={},...t){let r=document.createElementNS("http://www.w3.org/2000/svg",n);return S(r,e),r.append(...t),r}function S(n,e){for(let[t,r]of Object.entries(e))r===!1||r===void 0?n.removeAttribute(t):n.setAttribute(t,r===!0?"":r)}function N(n,e,t){let r=p("button",{type:"button",...e},n);return r.addEventListener("click",t),r}function Oe(n,e){let[t,r]=[L(n,e.from),L(n,e.to)];return Math.hypot(r[0]-t[0],r[1]-t[1],r[2]-t[2])}function Ge(n,e){return Math.min(Math.max(Math.round(n/e),1),Nt)}var Nt=256;function Fe(n){let e=x(n)[0];return Array.from({length:n.shape[0]},(t,r)=>r*e)}function E(n,e=0){let t=Number(n.toFixed(e));return(Object.is(t,-0)?0:t).toFixed(e).replace("-","\u2212")}function _e(n){let e=[["L","R"],["P","A"],["H","F"]];return`${n.map((r,o)=>`${e[o][r>=0?0:1]} ${Math.abs(r).toFixed(1)}`).join(", ")} mm`}function pe(n,e,t=5){let r=Math.max(e-n,1e-6),o=10**Math.floor(Math.log10(r/t)),i=o*([1,2,5,10].find(s=>r/(o*s)<=t)??10),a=[];for(let s=Math.ceil(n/i)*i;s<=e+1e-9;s+=i)a.push(Number(s.toFixed(9)));return a}var $=["axial","coronal","sagittal"],Lt={axial:{across:[1,0,0],down:[0,1,0],normal:[0,0,1]},coronal:{across:[1,0,0],down:[0,0,-1],normal:[0,1,0]},sagittal:{across:[0,1,0],down:[0,0,-1],normal:[1,0,0]}};function Ht(n){let e=[0,1,2],t=[2,1,0],r=-1;for(let o of e)for(let i of e)for(let a of e){if(o===i||i===a||o===a)continue;let s=Math.abs(n.direction[0][o])+Math.abs(n.direction[1][i])+Math.abs(n.direction[2][a]);s>r+1e-9&&([r,t]=[s,[o,i,a]])}return t}function Be(n){let e=Ht(n),t=o=>e[o.findIndex(i=>i!==0)],r=o=>{let i=Lt[o],[a,s,l]=[t(i.normal),t(i.across),t(i.down)],d=Math.min(1,Math.abs(C(R(n,a),i.normal)));return{name:o,normal:a,across:s,down:l,flipAcross:C(R(n,s),i.across)<0,flipDown:C(R(n,l),i.down)<0,obliqueDegrees:Math.acos(d)*180/Math.PI}};return{axial:r("axial"),coronal:r("coronal"),sagittal:r("sagittal")}}var Ct=Math.sin(12*Math.PI/180),Dt=[["L","R"],["P","A"],["H","F"]];function It(n){return[0,1,2].filter(e=>Math.abs(n[e])>=Ct).sort((e,t)=>Math.abs(n[t])-Math.abs(n[e])).map(e=>Dt[e][n[e]>0?0:1]).join("")}function We(n,e){let t=(i,a)=>{let[s,l,d]=R(n,i);return It([s*a,l*a,d*a])},[r,o]=[e.flipAcross?-1:1,e.flipDown?-1:1];return{left:t(e.across,-r),right:t(e.across,r),top:t(e.down,-o),bottom:t(e.down,o)}}function O(n,e){let t=x(n);return[n.shape[e.across]*t[e.across],n.shape[e.down]*t[e.down]]}function Ue(n,e,t,r){let[o,i]=O(n,e);return Math.max(.001,Math.min(t/o,r/i)*.96)}function X(n,e,t){let r=x(n),o=(i,a)=>((a?n.shape[i]-1-t[i]:t[i])+.5)*r[i];return[o(e.across,e.flipAcross),o(e.down,e.flipDown)]}function G(n,e,t,r){let o=x(n),i=[r[0],r[1],r[2]],a=(s,l,d)=>{let h=d/o[s]-.5;i[s]=l?n.shape[s]-1-h:h};return a(e.across,e.flipAcross,t[0]),a(e.down,e.flipDown,t[1]),i}function j(n,e,t){return[n.centreMm[0]+(e-n.width/2)/n.pixelsPerMm,n.centreMm[1]+(t-n.height/2)/n.pixelsPerMm]}function ze(n,e){return[n.width/2+(e[0]-n.centreMm[0])*n.pixelsPerMm,n.height/2+(e[1]-n.centreMm[1])*n.pixelsPerMm]}function me(n,e,t,r,o){let i=x(n),a=(d,h)=>[d===0?h:0,d===1?h:0,d===2?h:0],s=d=>1/(r.pixelsPerMm*i[d]),l=j(r,.5,r.height-.5);return{...Ke(t),left:o.left,right:o.right,divider:o.divider*r.width,origin:G(n,e,l,t.index),across:a(e.across,(e.flipAcross?-1:1)*s(e.across)),up:a(e.down,(e.flipDown?1:-1)*s(e.down)),slabSteps:t.slab==="none"?1:Ge(t.slabMm,i[e.normal]),slabStep:a(e.normal,1)}}function Y(n,e,t,r){return{...Ke(n),left:e,right:e,divider:0,origin:t,across:r,up:[0,0,0],slabSteps:1,slabStep:[0,0,0]}}function Ke(n){return{slabMaximum:n.slab==="maximum",windowLowHu:n.window.centreHu-n.window.widthHu/2,windowWidthHu:n.window.widthHu,mostDeviationHu:n.mostDeviationHu,mostDifferenceHu:n.mostDifferenceHu,overlay:n.overlay==="none"?null:n.overlay,opacity:.85}}var V=[{name:"Lung",window:{centreHu:-600,widthHu:1500}},{name:"Soft tissue",window:{centreHu:40,widthHu:400}},{name:"Bone",window:{centreHu:400,widthHu:1800}},{name:"Brain",window:{centreHu:40,widthHu:80}}];function fe(n){let e=(t,r,o)=>Math.min(Math.max(Math.round(t),r),o);return{centreHu:e(n.centreHu,-32768,32767),widthHu:e(n.widthHu,1,65535)}}function Xe(n,e,t){let r=Math.max(n.widthHu,20)/200;return fe({centreHu:n.centreHu-t*r,widthHu:n.widthHu+e*r})}function je(n){return V.find(t=>t.window.centreHu===n.centreHu&&t.window.widthHu===n.widthHu)?.name??"Free"}var Ye={axial:[0,0],coronal:[0,0],sagittal:[0,0]},k={thick:"Thick (original)",linear:"Linear",cubic:"Cubic",thin:"Thin (synthesised)",difference:"Thin \u2212 cubic",deviation:"Uncertainty"};function qe(n,e){return{a:"thick",b:e?"thin":"cubic",compare:"swipe",showsB:!1,divider:.5,planes:"all",window:V[1].window,tool:"crosshair",slab:"none",slabMm:5,overlay:"none",mostDeviationHu:100,mostDifferenceHu:200,index:[n.shape[0]>>1,n.shape[1]>>1,n.shape[2]>>1],zoom:1,pan:Ye,showsCrosshair:!0,showsProfile:!1,lines:[],lineStart:null}}var Ze={zoom:1,pan:Ye,divider:.5},ye=[.2,40];var $t={axial:[0,0,-1],coronal:[0,1,0],sagittal:[1,0,0]},q=class{constructor(e,t,r,o,i){this.grid=e;this.modes=t;this.changed=o;this.announce=i;this.planes=Be(e),this.current=r}grid;modes;changed;announce;planes;current;get state(){return this.current}set(e){let t=this.current,r={...t,...e},o=(s,l)=>this.modes.includes(s)?s:l,[i,a]=ye;this.current={...r,a:o(r.a,t.a),b:o(r.b,t.b),overlay:r.overlay==="none"||this.modes.includes(r.overlay)?r.overlay:t.overlay,zoom:Math.min(Math.max(r.zoom,i),a),divider:Math.min(Math.max(r.divider,0),1),window:fe(r.window),slabMm:Math.min(Math.max(r.slabMm,.1),200),mostDeviationHu:Math.min(Math.max(r.mostDeviationHu,1),4e3),mostDifferenceHu:Math.min(Math.max(r.mostDifferenceHu,1),4e3),index:Ot(Se(this.grid,r.index))},this.changed(t)}setWindow(e){this.set({window:e})}scroll(e,t){let{normal:r}=this.planes[e],o=R(this.grid,r),i=$t[e],a=o[0]*i[0]+o[1]*i[1]+o[2]*i[2]<0?-1:1;this.set({index:be(this.state.index,r,this.state.index[r]+a*t)})}scrollToEnd(e,t){this.scroll(e,(t?1:-1)*this.grid.shape[this.planes[e].normal])}moveCrosshair(e,t,r){let{across:o,down:i,flipAcross:a,flipDown:s}=this.planes[e],{index:l}=this.state;l=be(l,o,l[o]+(a?-t:t)),l=be(l,i,l[i]+(s?-r:r)),this.set({index:l})}placeCrosshair(e,t){this.set({index:G(this.grid,this.planes[e],t,this.state.index)})}pan(e,t,r){let o=O(this.grid,this.planes[e]),[i,a]=this.state.pan[e],s=(d,h)=>Math.min(Math.max(d,-h),h),l=[s(i-t,o[0]/2),s(a-r,o[1]/2)];this.set({pan:{...this.state.pan,[e]:l}})}zoomBy(e,t,r){let[o,i]=ye,a=Math.min(Math.max(this.state.zoom*e,o),i),s=r??X(this.grid,this.planes[t],this.state.index),l=O(this.grid,this.planes[t]),d=this.state.zoom/a,[h,u]=this.state.pan[t],c=[l[0]/2+h,l[1]/2+u],f=[s[0]+(c[0]-s[0])*d-l[0]/2,s[1]+(c[1]-s[1])*d-l[1]/2];this.set({zoom:a,pan:{...this.state.pan,[t]:f}})}reset(){this.set(Ze),this.announce("Zoom and position as at the start.")}exchange(){this.set({a:this.state.b,b:this.state.a})}nextMode(e){let t=this.modes.indexOf(this.state[e]);this.set({[e]:this.modes[(t+1)%this.modes.length]})}togglePlane(e){this.set({planes:this.state.planes==="all"?e:"all"})}markLine(e){let{lineStart:t,index:r}=this.state;t===null?(this.set({lineStart:r}),this.announce("The line starts at the crosshair; move it and press M again.")):this.addLine(e,t,r)}addLine(e,t,r){let o={plane:e,from:t,to:r};this.set({lines:[...this.state.lines,o],lineStart:null}),this.announce(`Distance ${this.distanceText(o)}.`)}removeLine(){this.set({lines:this.state.lines.slice(0,-1),lineStart:null})}distanceText(e){return this.grid.spacingMm[1]===null||this.grid.spacingMm[2]===null?"unknown (no pixel spacing)":`${E(Oe(this.grid,e),1)} mm`}sliceStepMm(e){return x(this.grid)[this.planes[e].normal]}};function be(n,e,t){let r=[n[0],n[1],n[2]];return r[e]=t,r}function Ot(n){return[Math.round(n[0]),Math.round(n[1]),Math.round(n[2])]}var Z=n=>({controller:e})=>{e.set({compare:n})},J=n=>({controller:e})=>{e.set({tool:n})},Q=(n,e)=>({controller:t})=>{let{centreHu:r,widthHu:o}=t.state.window,i=Math.max(1,Math.round(o/20));t.setWindow({centreHu:r+n*i,widthHu:o+e*i})},Gt=["none","mean","maximum"],Je=["none","difference","deviation"];function we(n,e){return n[(n.indexOf(e)+1)%n.length]}var ge=[{name:"Move",bindings:[{keys:["ArrowUp","ArrowDown"],shown:"\u2191 \u2193",does:"previous or next slice of the plane that has the focus",paneOnly:!0,run:({controller:n,plane:e},t)=>{n.scroll(e,t==="ArrowDown"?1:-1)}},{keys:["PageUp","PageDown"],shown:"Page \u2191 \u2193",does:"ten slices",paneOnly:!0,run:({controller:n,plane:e},t)=>{n.scroll(e,t==="PageDown"?10:-10)}},{keys:["Home","End"],shown:"Home, End",does:"first or last slice",paneOnly:!0,run:({controller:n,plane:e},t)=>{n.scrollToEnd(e,t==="End")}},{keys:["Shift+ArrowUp","Shift+ArrowDown","Shift+ArrowLeft","Shift+ArrowRight"],shown:"Shift + arrows",does:"crosshair by one voxel in the plane",paneOnly:!0,run:({controller:n,plane:e},t)=>{let r=t.endsWith("Right")?1:t.endsWith("Left")?-1:0,o=t.endsWith("Down")?1:t.endsWith("Up")?-1:0;n.moveCrosshair(e,r,o)}},{keys:["i","j","k","l"],shown:"I J K L",does:"move the picture up, left, down, right",run:({controller:n,plane:e},t)=>{let r=20/n.state.zoom,o=t==="l"?r:t==="j"?-r:0,i=t==="k"?r:t==="i"?-r:0;n.pan(e,o,i)}},{keys:["+","=","-"],shown:"+ \u2212",does:"zoom about the crosshair",run:({controller:n,plane:e},t)=>{n.zoomBy(t==="-"?1/1.25:1.25,e)}},{keys:["0","r"],shown:"0, R",does:"zoom and position as at the start",run:({controller:n})=>{n.reset()}},{keys:["Enter"],shown:"Enter",does:"this plane alone, or all planes",paneOnly:!0,run:({controller:n,plane:e})=>{n.togglePlane(e)}}]},{name:"Compare",bindings:[{keys:["a"],shown:"A",does:"next picture for A",run:({controller:n})=>{n.nextMode("a")}},{keys:["b"],shown:"B",does:"next picture for B",run:({controller:n})=>{n.nextMode("b")}},{keys:["x"],shown:"X",does:"exchange A and B",run:({controller:n})=>{n.exchange()}},{keys:["o"],shown:"O",does:"one picture",run:Z("one")},{keys:["v"],shown:"V",does:"A and B side by side",run:Z("side")},{keys:["s"],shown:"S",does:"swipe between A and B",run:Z("swipe")},{keys:["n"],shown:"N",does:"blink between A and B",run:Z("blink")},{keys:[" "],shown:"Space",does:"the other of A and B at once (one picture, blink)",paneOnly:!0,run:({controller:n})=>{n.set({showsB:!n.state.showsB})}},{keys:[",","."],shown:", .",does:"divider of the swipe to the left or right",run:({controller:n},e)=>{n.set({divider:n.state.divider+(e==="."?.05:-.05)})}},{keys:["u"],shown:"U",does:"overlay: none, difference, uncertainty",run:({controller:n})=>{let e=we(Je,n.state.overlay);for(;e!=="none"&&!n.modes.includes(e);)e=we(Je,e);n.set({overlay:e})}}]},{name:"Window",bindings:[{keys:V.map((n,e)=>String(e+1)),shown:`1 to ${V.length}`,does:V.map(n=>n.name.toLowerCase()).join(", "),run:({controller:n},e)=>{n.setWindow(V[Number(e)-1].window)}},{keys:["["],shown:"[",does:"narrower window",run:Q(0,-1)},{keys:["]"],shown:"]",does:"wider window",run:Q(0,1)},{keys:["{","Shift+{"],shown:"{",does:"lower centre (brighter)",run:Q(-1,0)},{keys:["}","Shift+}"],shown:"}",does:"higher centre (darker)",run:Q(1,0)}]},{name:"Measure",bindings:[{keys:["m"],shown:"M",does:"start a line at the crosshair; again: end it",run:({controller:n,plane:e})=>{n.markLine(e)}},{keys:["Delete","Backspace"],shown:"Delete",does:"remove the newest line",run:({controller:n})=>{n.removeLine()}},{keys:["p"],shown:"P",does:"profile across the slices at the crosshair",run:({controller:n})=>{n.set({showsProfile:!n.state.showsProfile})}},{keys:["g"],shown:"G",does:"slab: off, mean, maximum (MIP)",run:({controller:n})=>{n.set({slab:we(Gt,n.state.slab)})}},{keys:["h"],shown:"H",does:"show or hide the crosshair",run:({controller:n})=>{n.set({showsCrosshair:!n.state.showsCrosshair})}}]},{name:"Drag with the left button or one finger",bindings:[{keys:["c"],shown:"C",does:"crosshair (one finger: slices)",run:J("crosshair")},{keys:["w"],shown:"W",does:"window (or the right button)",run:J("window")},{keys:["t"],shown:"T",does:"move the picture (or the middle button)",run:J("pan")},{keys:["d"],shown:"D",does:"measure a distance",run:J("measure")}]},{name:"Page",bindings:[{keys:["f"],shown:"F",does:"full screen",run:n=>{n.toggleFullScreen()}},{keys:["?","Shift+?"],shown:"?",does:"this panel",run:n=>{n.showHelp()}}]}];function Qe(n,e){if(n.ctrlKey||n.altKey||n.metaKey)return;let t=n.key.length===1?n.key.toLowerCase():n.key,r=t.startsWith("Arrow"),o=n.shiftKey&&(r||t.length===1)?[`Shift+${t}`,...r?[]:[t]]:[t];return ge.flatMap(i=>i.bindings).find(i=>(e||i.paneOnly!==!0)&&i.keys.some(a=>o.includes(a)))}var T=4;function et(n,e,t){let r=e>=t,o=n.planes==="all"?$:[n.planes],i={x:0,y:0,width:e,height:t};if(n.compare==="side"){let d=["a","b"],h=o.length>1?r:!r,u=[];return o.forEach((c,f)=>{d.forEach((y,b)=>{let w=h?ee(i,o.length,d.length,f,b):ee(i,d.length,o.length,b,f);u.push({plane:c,side:y,...w})})}),u}if(o.length===1)return[{plane:o[0],side:"both",...i}];let a=.58,s=r?{...i,width:Math.round(e*a)-T/2}:{...i,height:Math.round(t*a)-T/2},l=r?{...i,x:s.width+T,width:e-s.width-T}:{...i,y:s.height+T,height:t-s.height-T};return o.map((d,h)=>{if(h===0)return{plane:d,side:"both",...s};let u=r?ee(l,1,2,0,h-1):ee(l,2,1,h-1,0);return{plane:d,side:"both",...u}})}function ee(n,e,t,r,o){let[i,a]=[r,r+1].map(d=>Math.round(d*(n.width+T)/e)),[s,l]=[o,o+1].map(d=>Math.round(d*(n.height+T)/t));return{x:n.x+i,y:n.y+s,width:a-i-T,height:l-s-T}}var Ft=[1,2,5,10,20,50,100,200],_t=12,tt=n=>n[0].toUpperCase()+n.slice(1),_=class{constructor(e,t){this.key=e;this.controller=t;this.plane=t.planes[e.plane],this.place={...e,x:0,y:0,width:1,height:1},this.divider=p("div",{class:"ts-divider",role:"slider",tabindex:"0","aria-label":`Divider of the swipe, ${e.plane}`,"aria-valuemin":"0","aria-valuemax":"100","aria-orientation":"horizontal"});let r=We(t.grid,this.plane),o=["left","right","top","bottom"].map(i=>p("div",{class:`ts-letter ts-letter-${i}`},r[i]));this.element=p("div",{class:"ts-pane",tabindex:"0",role:"application","aria-roledescription":"picture of slices"},this.lines,...o,this.title,this.window,this.left,this.right,this.divider)}key;controller;element;divider;place;plane;lines=M("svg",{class:"ts-lines","aria-hidden":"true"});title=p("div",{class:"ts-corner ts-top"});window=p("div",{class:"ts-corner ts-bottom"});left=p("div",{class:"ts-mode ts-mode-left"});right=p("div",{class:"ts-mode ts-mode-right"});view(e,t=this.place.width,r=this.place.height){let o=O(this.controller.grid,this.plane),[i,a]=e.pan[this.key.plane];return{width:t,height:r,pixelsPerMm:Ue(this.controller.grid,this.plane,t,r)*e.zoom,centreMm:[o[0]/2+i,o[1]/2+a]}}pictureAt(e,t){let r=this.element.getBoundingClientRect();return j(this.view(this.controller.state),e-r.left,t-r.top)}indexAt(e,t){let r=this.pictureAt(e,t);return G(this.controller.grid,this.plane,r,this.controller.state.index)}shown(e){if(this.key.side!=="both")return{left:e[this.key.side],right:e[this.key.side],divider:1};if(e.compare==="swipe")return{left:e.a,right:e.b,divider:e.divider};let t=e.showsB?e.b:e.a;return{left:t,right:t,divider:1}}update(e,t){let{state:r,grid:o}=this.controller;this.place=e,Object.assign(this.element.style,{left:`${e.x}px`,top:`${e.y}px`,width:`${e.width}px`,height:`${e.height}px`});let{left:i,right:a}=this.shown(r),s=this.key.side==="both"&&r.compare==="swipe",{normal:l}=this.plane,d=r.index[l]+1,h=this.plane.obliqueDegrees>=1?` (${this.plane.obliqueDegrees.toFixed(0)}\xB0 oblique)`:"";this.title.textContent=`${tt(this.key.plane)}${h}  ${d} / ${o.shape[l]}`;let u=r.slab==="none"?"":`  ${r.slab==="mean"?"mean":"MIP"} ${E(r.slabMm,1)} mm`;this.window.textContent=`C ${E(r.window.centreHu)}  W ${E(r.window.widthHu)}${u}`,this.left.textContent=k[i],this.right.textContent=s?k[a]:"",this.right.hidden=!s,S(this.element,{"aria-label":`${tt(this.key.plane)}, ${k[i]}${s?` left, ${k[a]} right of the divider`:""}, slice ${d} of ${o.shape[l]}. Arrow keys change the slice; ? lists all keys.`});let c=Math.round(r.divider*e.width);this.divider.hidden=!s,this.divider.style.left=`${c}px`,S(this.divider,{"aria-valuenow":String(Math.round(r.divider*100)),"aria-valuetext":`${k[i]} over ${Math.round(r.divider*100)} percent`}),this.left.hidden=s&&c<60,this.left.style.maxWidth=s?`${Math.max(c-16,0)}px`:"",this.right.hidden=!s||e.width-c<60,this.right.style.maxWidth=`${Math.max(e.width-c-16,0)}px`,this.draw(r,t)}draw(e,t){let{grid:r}=this.controller,{width:o,height:i}=this.place,a=this.view(e),s=u=>ze(a,X(r,this.plane,u)),l=[];if(e.showsCrosshair){let[u,c]=s(e.index),f=_t;l.push(M("path",{class:"ts-crosshair",d:`M0 ${c}H${u-f}M${u+f} ${c}H${o}M${u} 0V${c-f}M${u} ${c+f}V${i}`}))}let{normal:d}=this.plane,h=e.lines.filter(u=>u.plane===this.key.plane&&Math.round(u.from[d])===e.index[d]);for(let u of t===null?h:[...h,t]){let[c,f]=s(u.from),[y,b]=s(u.to),w=M("text",{class:"ts-length",x:String(Math.max(c,y)+8),y:String((f+b)/2+4)});w.textContent=this.controller.distanceText(u),l.push(M("path",{class:"ts-line-under",d:`M${c} ${f}L${y} ${b}`}),M("path",{class:"ts-line",d:`M${c} ${f}L${y} ${b}`}),...[[c,f],[y,b]].map(([m,g])=>M("circle",{class:"ts-line",cx:String(m),cy:String(g),r:"3"})),w)}l.push(...this.scaleBar(a)),S(this.lines,{viewBox:`0 0 ${o} ${i}`}),this.lines.replaceChildren(...l)}scaleBar(e){let{grid:t}=this.controller;if(t.spacingMm[1]===null||t.spacingMm[2]===null)return[];let r=Ft.filter(l=>l*e.pixelsPerMm<=e.width/3).at(-1);if(r===void 0||e.height<90)return[];let[o,i]=[e.width-12,e.height-14],a=o-r*e.pixelsPerMm,s=M("text",{class:"ts-bar-text",x:String((a+o)/2),y:String(i-6)});return s.textContent=r%10===0&&r>=10?`${r/10} cm`:`${r} mm`,[M("path",{class:"ts-bar",d:`M${a} ${i-4}V${i}H${o}V${i-4}`}),s]}};function nt(n,e,t){let[r,o]=[n.x,n.y].map(s=>Math.round(s*t)),[i,a]=[n.x+n.width,n.y+n.height].map(s=>Math.round(s*t));return{x:r,y:Math.round(e*t)-a,width:Math.max(i-r,T),height:Math.max(a-o,T)}}function xe(n,...e){let t=`ts-${n.toLowerCase().replace(/[^a-z]+/g,"-")}-${Math.random().toString(36).slice(2,8)}`,r=N("Close",{},()=>{i.close()}),o=p("div",{class:"ts-dialog-head"},p("h2",{id:t},n),r),i=p("dialog",{class:"ts-dialog","aria-labelledby":t},o,...e);return i}function te(n,e){let t=e.map(([r,o])=>p("tr",{},p("th",{scope:"row"},r),p("td",{},o)));return p("table",{},p("caption",{},n),p("tbody",{},...t))}function rt(){let n=ge.map(t=>te(t.name,t.bindings.map(r=>[r.shown,r.does]))),e=te("Mouse and fingers",[["Wheel, one finger up or down","slices"],["Ctrl + wheel, pinch","zoom"],["Right button","window: right is wider, down is brighter"],["Middle button, two fingers","move the picture"],["Double click","this plane alone, or all planes"]]);return xe("Keys",p("div",{class:"ts-columns"},...n,e))}var ne=class{element=p("div",{class:"ts-legend"});parts;constructor(e){let t=r=>{let o=r==="deviation",i=o?"Uncertainty (one standard deviation), HU":"Thin \u2212 cubic, HU",a=p("div",{class:"ts-scale"});a.style.background=Pe(r);let s=p("div",{class:"ts-ticks"}),l=p("input",{type:"number",min:"1",max:"4000","aria-label":`End of the scale: ${i}`});l.addEventListener("change",()=>{Number.isFinite(l.valueAsNumber)&&e.set({[o?"mostDeviationHu":"mostDifferenceHu"]:l.valueAsNumber})});let d=p("label",{class:"ts-number"},"End",l),h=p("div",{},a,s),u=p("div",{class:"ts-legend-part"},p("span",{},i),h,d);return this.element.append(u),{box:u,ticks:s,field:l}};this.parts={difference:t("difference"),deviation:t("deviation")}}update(e){let t=e.compare==="one"?[e.showsB?e.b:e.a]:[e.a,e.b];for(let r of["difference","deviation"]){let{box:o,ticks:i,field:a}=this.parts[r],s=r==="deviation"?e.mostDeviationHu:e.mostDifferenceHu;o.hidden=e.overlay!==r&&!t.includes(r),i.replaceChildren(...ke(r,s).map(l=>p("span",{},E(l,s<10?1:0)))),document.activeElement!==a&&(a.value=String(s))}}};var ot=100,Bt=8,Wt=8,re=class{constructor(e,t,r){this.pane=e;this.controller=t;this.listener=r;let{element:o,divider:i}=e;o.addEventListener("pointerdown",this.down),o.addEventListener("pointermove",this.move),o.addEventListener("pointerup",this.up),o.addEventListener("pointercancel",this.up),o.addEventListener("pointerleave",()=>{this.listener.hover(null)}),o.addEventListener("wheel",this.wheel,{passive:!1}),o.addEventListener("dblclick",()=>{this.controller.togglePlane(this.pane.key.plane)}),o.addEventListener("contextmenu",a=>{a.preventDefault()}),i.addEventListener("pointerdown",a=>{a.stopPropagation(),i.setPointerCapture(a.pointerId)}),i.addEventListener("pointermove",a=>{if(!i.hasPointerCapture(a.pointerId))return;let s=o.getBoundingClientRect();this.controller.set({divider:(a.clientX-s.left)/s.width})}),i.addEventListener("dblclick",a=>{a.stopPropagation()}),i.addEventListener("keydown",a=>{let s={ArrowLeft:-.02,ArrowDown:-.02,ArrowRight:.02,ArrowUp:.02}[a.key],l={Home:0,End:1}[a.key];s===void 0&&l===void 0||(a.preventDefault(),a.stopPropagation(),this.controller.set({divider:l??this.controller.state.divider+(s??0)}))})}pane;controller;listener;fingers=new Map;gesture=null;start={x:0,y:0,window:{centreHu:0,widthHu:1},index:[0,0,0]};rest=0;hasMoved=!1;down=e=>{if(this.pane.element.focus({preventScroll:!0}),this.pane.element.setPointerCapture(e.pointerId),this.fingers.set(e.pointerId,{x:e.clientX,y:e.clientY}),this.fingers.size>1){this.gesture==="measure"&&this.listener.drawing(this.pane,null),this.gesture=null;return}let{state:t}=this.controller;this.start={x:e.clientX,y:e.clientY,window:t.window,index:this.pane.indexAt(e.clientX,e.clientY)},this.rest=0,this.hasMoved=!1;let r=e.pointerType==="touch";this.gesture=e.button===2?"window":e.button===1?"pan":r&&t.tool==="crosshair"?"scroll":t.tool,e.button===1&&e.preventDefault(),this.gesture==="crosshair"&&this.placeCrosshair(e)};move=e=>{let t=this.fingers.get(e.pointerId);if(t===void 0){this.listener.hover(this.pane.indexAt(e.clientX,e.clientY));return}let r={x:e.clientX,y:e.clientY};if(this.fingers.size>1&&this.pinch(e.pointerId,t,r),this.fingers.set(e.pointerId,r),this.fingers.size>1)return;let[o,i]=[r.x-this.start.x,r.y-this.start.y];Math.hypot(o,i)>Wt&&(this.hasMoved=!0);let{plane:a}=this.pane.key;if(this.gesture==="crosshair")this.placeCrosshair(e);else if(this.gesture==="window")this.controller.setWindow(Xe(this.start.window,o,i));else if(this.gesture==="pan"){let s=this.pane.view(this.controller.state).pixelsPerMm;this.controller.pan(a,(r.x-t.x)/s,(r.y-t.y)/s)}else if(this.gesture==="measure"){let s=this.pane.indexAt(r.x,r.y);this.listener.drawing(this.pane,{from:this.start.index,to:s})}else this.gesture==="scroll"&&this.hasMoved&&(this.rest+=(r.y-t.y)/Bt,this.scrollWhole());this.listener.hover(this.pane.indexAt(r.x,r.y))};up=e=>{if(!(!this.fingers.delete(e.pointerId)||this.fingers.size>0)){if(e.type==="pointerup"&&(this.gesture==="scroll"&&!this.hasMoved&&this.placeCrosshair(e),this.gesture==="measure"&&this.hasMoved)){let t=this.pane.indexAt(e.clientX,e.clientY);this.controller.addLine(this.pane.key.plane,this.start.index,t)}this.listener.drawing(this.pane,null),this.gesture=null}};wheel=e=>{e.preventDefault();let t=e.deltaMode===WheelEvent.DOM_DELTA_PIXEL?e.deltaY:e.deltaY*(ot/3);if(e.ctrlKey||e.metaKey){let r=this.pane.pictureAt(e.clientX,e.clientY);this.controller.zoomBy(Math.exp(-t/300),this.pane.key.plane,r);return}this.rest+=t/ot,this.scrollWhole()};placeCrosshair(e){this.controller.placeCrosshair(this.pane.key.plane,this.pane.pictureAt(e.clientX,e.clientY))}scrollWhole(){let e=Math.trunc(this.rest);e!==0&&(this.rest-=e,this.controller.scroll(this.pane.key.plane,e))}pinch(e,t,r){let o=[...this.fingers].find(([h])=>h!==e)?.[1];if(o===void 0)return;let{plane:i}=this.pane.key,a=this.pane.view(this.controller.state).pixelsPerMm;this.controller.pan(i,(r.x-t.x)/2/a,(r.y-t.y)/2/a);let[s,l]=[t,r].map(h=>Math.hypot(h.x-o.x,h.y-o.y));if(s<1||l<1)return;let d=this.pane.pictureAt((r.x+o.x)/2,(r.y+o.y)/2);this.controller.zoomBy(l/s,i,d)}};var P={left:52,right:12,top:8,bottom:30},oe=class{constructor(e){this.grid=e;this.element=p("section",{class:"ts-profile","aria-label":"Profile across the slices"},this.key,this.plot)}grid;element;plot=M("svg",{class:"ts-plot",role:"img"});key=p("div",{class:"ts-plot-key"});update(e,t){let[r,o]=[this.plot.clientWidth||600,this.plot.clientHeight||130],i=Fe(this.grid),a=e.flatMap(m=>[...m.values]).filter(m=>!Number.isNaN(m)),s=a.reduce((m,g)=>Math.min(m,g),1/0),l=a.reduce((m,g)=>Math.max(m,g),-1/0),[d,h]=a.length===0?[0,1]:[s,Math.max(l,s+1)],u=Math.max(i[i.length-1],x(this.grid)[0]),c=m=>P.left+m/u*(r-P.left-P.right),f=m=>o-P.bottom-(m-d)/(h-d)*(o-P.top-P.bottom),y=[],b=(m,g)=>{let W=M("text",g);return W.textContent=m,W};for(let m of pe(d,h))y.push(M("path",{class:"ts-grid",d:`M${P.left} ${f(m)}H${r-P.right}`}),b(E(m),{class:"ts-tick",x:String(P.left-6),y:String(f(m)+4),"text-anchor":"end"}));for(let m of pe(0,u,8))y.push(b(E(m,m%1===0?0:1),{class:"ts-tick",x:String(c(m)),y:String(o-P.bottom+14),"text-anchor":"middle"}));y.push(b("HU",{class:"ts-tick",x:"4",y:"14"}),b("mm from the first slice",{class:"ts-tick",x:String((P.left+r)/2),y:String(o-3),"text-anchor":"middle"}),M("path",{class:"ts-here",d:`M${c(i[t])} ${P.top}V${o-P.bottom}`}));for(let m of e)y.push(M("path",{class:`ts-curve ts-curve-${m.mode}`,d:Ut(m,i,c,f)}));S(this.plot,{viewBox:`0 0 ${r} ${o}`});let w=e.filter(m=>!Number.isNaN(m.values[t])).map(m=>`${k[m.mode]} ${E(m.values[t])} HU`);S(this.plot,{"aria-label":`Profile across the slices. At the crosshair: ${w.join(", ")}.`}),this.plot.replaceChildren(...y),this.key.replaceChildren(...e.map(m=>p("span",{class:`ts-key ts-key-${m.mode}`},k[m.mode])))}};function Ut(n,e,t,r){let o=e.length>1?(e[1]-e[0])/2:.5,i="",a="M";return n.values.forEach((s,l)=>{if(Number.isNaN(s)){a="M";return}if(n.mode==="thick"){let[d,h]=[Math.max(e[l]-o,0),Math.min(e[l]+o,e[e.length-1])];i+=`${a}${t(d).toFixed(1)} ${r(s).toFixed(1)}L${t(h).toFixed(1)} ${r(s).toFixed(1)}`}else i+=`${a}${t(e[l]).toFixed(1)} ${r(s).toFixed(1)}`;a="L"}),i}var it=`.ts-viewer {
  --back: #0b0c0e;
  --raised: #1b1d21;
  --line: #5b616c;
  --text: #e8eaee;
  --quiet: #b4bac4;
  --accent: #7cc4ff;
  --warm: #ffd27a;
  display: flex;
  flex-direction: column;
  width: 100%;
  height: 100%;
  min-height: 320px;
  background: var(--back);
  color: var(--text);
  font:
    14px/1.35 system-ui,
    sans-serif;
  box-sizing: border-box;
  overflow: hidden;
}
.ts-viewer *,
.ts-viewer *::before {
  box-sizing: border-box;
}
.ts-viewer [hidden] {
  display: none !important;
}
.ts-toolbar {
  display: flex;
  flex-wrap: wrap;
  gap: 6px 14px;
  padding: 6px 8px;
  background: var(--raised);
}
.ts-group {
  display: flex;
  flex-wrap: wrap;
  align-items: center;
  gap: 4px;
}
.ts-tag {
  font-weight: 600;
  color: var(--warm);
}
.ts-viewer button,
.ts-viewer select,
.ts-viewer input {
  min-height: 30px;
  padding: 2px 8px;
  border: 1px solid var(--line);
  border-radius: 5px;
  background: #26292f;
  color: var(--text);
  font: inherit;
}
.ts-viewer button {
  cursor: pointer;
}
.ts-viewer button:hover {
  background: #343840;
}
.ts-viewer button[aria-pressed='true'] {
  border-color: var(--accent);
  background: #143a57;
}
.ts-toggles {
  gap: 0;
}
.ts-toggles button {
  border-radius: 0;
  margin-left: -1px;
}
.ts-toggles button:first-child {
  border-radius: 5px 0 0 5px;
}
.ts-toggles button:last-child {
  border-radius: 0 5px 5px 0;
}
.ts-number {
  display: inline-flex;
  align-items: center;
  gap: 4px;
  color: var(--quiet);
}
.ts-number input {
  width: 76px;
}
.ts-viewer :focus-visible {
  outline: 2px solid var(--accent);
  outline-offset: 1px;
  z-index: 2;
}
.ts-stage {
  position: relative;
  flex: 1 1 0;
  min-height: 120px;
  overflow: hidden;
}
.ts-stage canvas {
  position: absolute;
  inset: 0;
  width: 100%;
  height: 100%;
}
.ts-pane {
  position: absolute;
  container-type: inline-size;
  overflow: hidden;
  touch-action: none;
  user-select: none;
  -webkit-user-select: none;
  cursor: crosshair;
}
.ts-pane:focus {
  outline: 1px solid var(--accent);
  outline-offset: -1px;
}
.ts-pane:focus-visible {
  outline: 2px solid var(--accent);
  outline-offset: -2px;
}
.ts-lines {
  position: absolute;
  inset: 0;
  width: 100%;
  height: 100%;
  pointer-events: none;
}
.ts-crosshair {
  stroke: #5fd4c4;
  stroke-width: 1;
  stroke-opacity: 0.75;
  fill: none;
}
.ts-line-under {
  stroke: #000;
  stroke-width: 4;
  stroke-opacity: 0.6;
}
.ts-line {
  stroke: var(--warm);
  stroke-width: 1.6;
  fill: none;
}
.ts-length,
.ts-bar-text {
  fill: var(--warm);
  font-size: 13px;
  paint-order: stroke;
  stroke: #000;
  stroke-width: 3px;
  stroke-linejoin: round;
}
.ts-bar {
  stroke: var(--text);
  stroke-width: 1.5;
  fill: none;
}
.ts-bar-text {
  fill: var(--text);
  text-anchor: middle;
}
.ts-corner,
.ts-letter,
.ts-mode {
  position: absolute;
  pointer-events: none;
  text-shadow:
    0 0 3px #000,
    0 0 3px #000,
    0 1px 2px #000;
  white-space: pre;
}
.ts-top {
  left: 8px;
  top: 5px;
}
.ts-bottom {
  left: 8px;
  bottom: 5px;
  color: var(--quiet);
}
.ts-letter {
  font-weight: 700;
  font-size: 15px;
  color: var(--warm);
}
.ts-letter-left {
  left: 8px;
  top: 50%;
  transform: translateY(-50%);
}
.ts-letter-right {
  right: 8px;
  top: 50%;
  transform: translateY(-50%);
}
/* In a narrow pane the plane's name reaches the middle. */
@container (max-width: 290px) {
  .ts-viewer .ts-letter-top {
    left: auto;
    right: 8px;
  }
  .ts-viewer .ts-letter-bottom {
    bottom: 24px;
  }
}
/* Beside the middle, where the crosshair and the divider of the swipe begin. */
.ts-letter-top {
  top: 5px;
  left: calc(50% + 10px);
}
.ts-letter-bottom {
  bottom: 5px;
  left: calc(50% + 10px);
}
.ts-mode {
  top: 25px;
  color: var(--accent);
  overflow: hidden;
  text-overflow: ellipsis;
}
.ts-mode-left {
  left: 8px;
}
.ts-mode-right {
  right: 8px;
}
.ts-divider {
  position: absolute;
  top: 0;
  bottom: 0;
  width: 28px;
  margin-left: -14px;
  cursor: ew-resize;
  touch-action: none;
}
.ts-divider::before {
  content: '';
  position: absolute;
  left: 13px;
  top: 0;
  bottom: 0;
  width: 2px;
  background: var(--warm);
  opacity: 0.85;
}
.ts-divider::after {
  content: '\\2194';
  position: absolute;
  left: 1px;
  bottom: 34px;
  width: 26px;
  height: 26px;
  border-radius: 50%;
  background: var(--warm);
  color: #111;
  text-align: center;
  line-height: 25px;
}
.ts-legend {
  display: flex;
  flex-wrap: wrap;
  gap: 2px 28px;
  background: var(--raised);
}
.ts-legend-part {
  display: flex;
  flex-wrap: wrap;
  align-items: center;
  gap: 4px 12px;
  padding: 4px 10px;
}
.ts-scale {
  width: 220px;
  height: 10px;
}
.ts-ticks {
  display: flex;
  justify-content: space-between;
  width: 220px;
  font-size: 12px;
  color: var(--quiet);
}
.ts-profile {
  flex: 0 0 170px;
  display: flex;
  flex-direction: column;
  background: #101216;
  border-top: 1px solid #2c3037;
}
.ts-plot-key {
  display: flex;
  gap: 16px;
  padding: 4px 10px 0;
  font-size: 12px;
}
.ts-key::before {
  content: '';
  display: inline-block;
  width: 18px;
  height: 3px;
  margin-right: 6px;
  vertical-align: middle;
  background: currentcolor;
}
.ts-key-thick {
  color: #b4bac4;
}
.ts-key-cubic {
  color: #6fb7ff;
}
.ts-key-thin {
  color: #ffb454;
}
.ts-plot {
  flex: 1 1 0;
  min-height: 0;
  width: 100%;
}
.ts-curve {
  fill: none;
  stroke-width: 1.6;
}
.ts-curve-thick {
  stroke: #b4bac4;
}
.ts-curve-cubic {
  stroke: #6fb7ff;
}
.ts-curve-thin {
  stroke: #ffb454;
}
.ts-grid {
  stroke: #2c3037;
}
.ts-here {
  stroke: #5fd4c4;
}
.ts-tick {
  fill: var(--quiet);
  font-size: 11px;
}
.ts-status {
  display: flex;
  flex-wrap: wrap;
  justify-content: space-between;
  gap: 2px 16px;
  min-height: 28px;
  padding: 4px 10px;
  background: var(--raised);
  font-variant-numeric: tabular-nums;
  white-space: pre-wrap;
}
.ts-progress {
  color: var(--accent);
}
.ts-notice {
  padding: 4px 10px;
  background: #4a3200;
  color: #ffe6b3;
  font-size: 13px;
}
.ts-live {
  position: absolute;
  width: 1px;
  height: 1px;
  overflow: hidden;
  clip-path: inset(50%);
}
.ts-dialog {
  width: min(900px, 94vw);
  max-height: 90vh;
  border: 1px solid var(--line);
  border-radius: 8px;
  background: var(--raised);
  color: var(--text);
}
.ts-dialog::backdrop {
  background: rgb(0 0 0 / 60%);
}
.ts-dialog-head {
  display: flex;
  justify-content: space-between;
  align-items: center;
  margin-bottom: 8px;
}
.ts-dialog h2 {
  margin: 0;
  font-size: 18px;
}
.ts-columns {
  columns: 360px;
}
.ts-dialog table {
  margin-bottom: 12px;
  border-collapse: collapse;
  break-inside: avoid;
}
.ts-dialog caption {
  padding: 4px 0;
  text-align: left;
  font-weight: 600;
  color: var(--warm);
}
.ts-dialog th {
  padding: 2px 14px 2px 0;
  text-align: left;
  vertical-align: top;
  font-weight: 600;
  white-space: nowrap;
}
.ts-dialog td {
  padding: 2px 0;
  overflow-wrap: anywhere;
}
@media (pointer: coarse) {
  .ts-viewer button,
  .ts-viewer select,
  .ts-viewer input {
    min-height: 40px;
  }
}
@media (max-width: 760px) {
  .ts-toolbar {
    flex-wrap: nowrap;
    overflow-x: auto;
  }
  .ts-toolbar .ts-group {
    flex-wrap: nowrap;
  }
}
`;var Kt=[["one","One","One picture (O)"],["side","Side by side","A and B side by side (V)"],["swipe","Swipe","Swipe between A and B (S)"],["blink","Blink","Blink between A and B (N)"]],Xt=[["crosshair","Crosshair","Drag moves the crosshair (C)"],["window","Window","Drag changes the window (W); the right button always does"],["pan","Move","Drag moves the picture (T); the middle button always does"],["measure","Measure","Drag measures a distance (D)"]],jt=[["none","No slab"],["mean","Mean"],["maximum","MIP"]];function st(n,e){let t=[],r=(c,f,y,b)=>{let w=p("select",{"aria-label":c});for(let[m,g]of f)w.append(p("option",{value:m},g));return w.addEventListener("change",()=>{b(w.value)}),t.push(m=>{w.value=y(m)??""}),w},o=(c,f,y,b)=>{let w=f.map(([m,g,W])=>{let Me=N(g,{title:W,"aria-pressed":"false"},()=>{b(m)});return t.push(ut=>{S(Me,{"aria-pressed":String(y(ut)===m)})}),Me});return p("div",{class:"ts-group ts-toggles",role:"group","aria-label":c},...w)},i=(c,f,y,b,w={})=>{let m=p("input",{type:"number","aria-label":c,title:c,...w});return m.addEventListener("change",()=>{m.value!==""&&Number.isFinite(m.valueAsNumber)&&b(m.valueAsNumber)}),t.push(g=>{(document.activeElement!==m||m.valueAsNumber!==y(g))&&(m.value=String(Number(y(g).toFixed(2))))}),p("label",{class:"ts-number"},f,m)},a=(c,...f)=>p("div",{class:"ts-group",role:"group","aria-label":c},...f),s=n.modes.map(c=>[c,k[c]]),l=[["none","No overlay"],...n.modes.includes("difference")?[["difference","Overlay: difference"]]:[],...n.modes.includes("deviation")?[["deviation","Overlay: uncertainty"]]:[]],d=N("Profile",{title:"Profile across the slices at the crosshair (P)"},()=>{n.set({showsProfile:!n.state.showsProfile})});t.push(c=>{S(d,{"aria-pressed":String(c.showsProfile)})});let h=i("Thickness of the slab, mm","mm",c=>c.slabMm,c=>{n.set({slabMm:c})},{min:"0.1",max:"200",step:"any"});return t.push(c=>{h.hidden=c.slab==="none"}),{element:p("div",{class:"ts-toolbar",role:"toolbar","aria-label":"Viewer"},a("Pictures",p("span",{class:"ts-tag","aria-hidden":"true"},"A"),r("Picture A",s,c=>c.a,c=>{n.set({a:c})}),N("\u21C4",{title:"Exchange A and B (X)","aria-label":"Exchange A and B"},()=>{n.exchange()}),p("span",{class:"ts-tag","aria-hidden":"true"},"B"),r("Picture B",s,c=>c.b,c=>{n.set({b:c})})),o("Comparison",Kt,c=>c.compare,c=>{n.set({compare:c})}),a("Window",r("Window preset",[...V.map(({name:c})=>[c,c]),["Free","Free"]],c=>je(c.window),c=>{let f=V.find(y=>y.name===c);f!==void 0&&n.setWindow(f.window)}),i("Centre of the window, HU","C",c=>c.window.centreHu,c=>{n.setWindow({...n.state.window,centreHu:c})}),i("Width of the window, HU","W",c=>c.window.widthHu,c=>{n.setWindow({...n.state.window,widthHu:c})},{min:"1"})),o("Left button",Xt,c=>c.tool,c=>{n.set({tool:c})}),a("Planes and slabs",r("Planes",[["all","All planes"],...$.map(c=>[c,c[0].toUpperCase()+c.slice(1)])],c=>c.planes,c=>{n.set({planes:c})}),r("Slab",jt,c=>c.slab,c=>{n.set({slab:c})}),h,r("Overlay",l,c=>c.overlay,c=>{n.set({overlay:c})})),a("Page",d,N("Reset",{title:"Zoom and position as at the start (R)"},()=>{n.reset()}),N("About",{title:"About these volumes"},e.showFacts),N("Full screen",{title:"Full screen (F)"},e.toggleFullScreen),N("?",{title:"Keys (?)","aria-label":"Keys"},e.showHelp))),update:c=>{for(let f of t)f(c)}}}var F=class{constructor(e){this.slices=e}slices;ready=0;waiting=new Map;get isComplete(){return this.ready>=this.slices}add(e,t){if(!Number.isInteger(e)||e<0||t<1||e+t>this.slices)throw new RangeError(`Slices ${e} to ${e+t} do not lie in a volume of ${this.slices}.`);this.waiting.set(e,Math.max(this.waiting.get(e)??0,e+t));let r=!0;for(;r;){r=!1;for(let[o,i]of this.waiting)o>this.ready||(this.ready=Math.max(this.ready,i),this.waiting.delete(o),r=!0)}}};function Yt(n,e,t,r){return Math.ceil(e[1]/r)*Math.ceil(e[2]/r)*(n[0]*6+e[0]*(t?4:2))}function at(n,e,t,r,o){let i=1;for(;i<Math.min(e[1],e[2])&&(Yt(n,e,t,i)>r||Math.ceil(Math.max(e[1],e[2])/i)>o);)i++;return i}function ve(n,e){if(e===1)return n;let t=(e-1)/2,[,r,o]=n.spacingMm,i=a=>n.originMm[a]+t*((r??1)*n.direction[a][1]+(o??1)*n.direction[a][2]);return{...n,shape:[n.shape[0],Math.ceil(n.shape[1]/e),Math.ceil(n.shape[2]/e)],spacingMm:[n.spacingMm[0],r===null?null:r*e,o===null?null:o*e],originMm:[i(0),i(1),i(2)]}}function lt(n,e,t,r){if(r===1)return n;let o=n.length/(e*t),[i,a]=[Math.ceil(e/r),Math.ceil(t/r)],s=new Int16Array(o*i*a);for(let l=0;l<o;l++)for(let d=0;d<i;d++){let[h,u]=[d*r,Math.min((d+1)*r,e)];for(let c=0;c<a;c++){let[f,y]=[c*r,Math.min((c+1)*r,t)],b=0;for(let w=h;w<u;w++){let m=(l*e+w)*t;for(let g=f;g<y;g++)b+=n[m+g]}s[(l*i+d)*a+c]=Math.round(b/((u-h)*(y-f)))}}return s}var qt=1024*2**20,Zt=400*2**20,Jt=8,ie=class{constructor(e,t){this.canvas=e;this.options=t;de(t.thick),de(t.thin);let[r,o]=[t.thick,t.thin];ce(r,o);let[i,a]=[t.hasThin??!1,t.hasDeviation??!1],s=I.longestAxis(e);if(Math.max(o.shape[0],r.shape[0])>s)throw new v(`This device shows at most ${s} slices; open a part of the volume.`);let l=t.budgetBytes??Qt(),d=at(r.shape,o.shape,a,l,s);for(;;){let[f,y]=[ve(r,d),ve(o,d)],b={thickShape:f.shape,thinShape:y.shape,depth:ce(f,y),hasThin:i,hasDeviation:a,deviationStepHu:t.deviationStepHu??1,paddingHu:t.paddingHu??null};try{this.renderer=new I(e,b),[this.scene,this.grid,this.reduction]=[b,y,d];break}catch(w){if(!(w instanceof v)||d>=Jt)throw w;d++}}this.reductionOfSource=this.reduction*(t.reducedBefore??1);let[h,u,c]=this.scene.thickShape;this.thick=new Int16Array(h*u*c),this.modes=Ve.filter(f=>f!=="thin"&&f!=="difference"&&f!=="deviation"||(f==="deviation"?a:i)),this.forget()}canvas;options;renderer;grid;reductionOfSource;reduction;modes;scene;arrivals=new Map;thick;arrival(e){return this.arrivals.get(e)??null}get isComplete(){return[...this.arrivals.values()].every(e=>e.isComplete)}add(e,t,r){let o=this.arrivals.get(e);if(o===void 0)throw new RangeError(`No ${e} volume was announced.`);let[,i,a]=this.options.thin.shape,s=r.length/(i*a);if(!Number.isInteger(s))throw new RangeError(`A slab of ${r.length} voxels holds no whole slices.`);o.add(t,s);let l=lt(r,i,a,this.reduction);e==="thick"&&this.thick.set(l,t*this.scene.thickShape[1]*this.scene.thickShape[2]),this.renderer.upload(e,t,l,o.ready)}prepareCubic(){if(this.renderer.hasCubic||this.arrivals.get("thick")?.isComplete!==!0)return;let{paddingHu:e,thickShape:t}=this.scene,r=new Float32Array(this.thick.length);for(let o=0;o<r.length;o++)r[o]=Ne(this.thick[o],e);this.renderer.uploadMoments(Ae(r,t[0]))}restore(){let e=this.arrivals.get("thick")?.ready??0;if(this.renderer=new I(this.canvas,this.scene),this.forget(),e===0)return;this.arrivals.get("thick")?.add(0,e);let t=this.scene.thickShape[1]*this.scene.thickShape[2];this.renderer.upload("thick",0,this.thick.subarray(0,e*t),e)}forget(){this.arrivals.clear(),this.arrivals.set("thick",new F(this.scene.thickShape[0])),this.scene.hasThin&&this.arrivals.set("thin",new F(this.scene.thinShape[0])),this.scene.hasDeviation&&this.arrivals.set("deviation",new F(this.scene.thinShape[0]))}};function Qt(){return navigator.maxTouchPoints>1&&!window.matchMedia("(any-pointer: fine)").matches?Zt:qt}var[en,tn]=[300,2400],nn=700,rn=2,on=560,sn="Research software, not a medical device. Synthesised detail can be wrong. Not for diagnosis; keep the original images.";function se(n,e){return new B(n,e)}var B=class{canvas=p("canvas",{"aria-hidden":"true"});stage=p("div",{class:"ts-stage"},this.canvas);readout=p("div",{class:"ts-readout"});progress=p("div",{class:"ts-progress"});live=p("div",{class:"ts-live",role:"status","aria-live":"polite"});root=p("section",{class:"ts-viewer","aria-label":"Viewer of thick and thin slices"});volumes;controller;toolbar;legend;profile;help=rt();facts;panes=[];drawing=null;hovered=null;focused="axial";frame=0;blink=0;arriving=0;arrivalMs=en;listeners={change:new Set,position:new Set,arrival:new Set,restored:new Set};resized=new ResizeObserver(()=>{this.schedule()});constructor(e,t){this.volumes=new ie(this.canvas,t);let{grid:r,modes:o}=this.volumes;this.controller=new q(r,o,{...qe(r,t.hasThin??!1),...an(window.innerWidth),...t.state},s=>{this.changed(s)},s=>{this.live.textContent=s}),this.facts=xe("About these volumes",te("Facts",this.factRows(t))),this.toolbar=st(this.controller,{toggleFullScreen:()=>{this.toggleFullScreen()},showHelp:()=>{this.help.showModal()},showFacts:()=>{this.facts.showModal()}}),this.legend=new ne(this.controller),this.profile=new oe(r);let i=p("footer",{class:"ts-notice"},t.notice??sn),a=p("div",{class:"ts-status"},this.readout,this.progress);this.root.append(this.toolbar.element,this.stage,this.legend.element,this.profile.element,a,i,this.live,this.help,this.facts),ln(e),e.append(this.root),this.root.addEventListener("keydown",this.keyed),this.canvas.addEventListener("webglcontextlost",this.lost),this.canvas.addEventListener("webglcontextrestored",this.restored),this.resized.observe(this.stage),this.changed(this.controller.state),this.volumes.reductionOfSource>1&&this.controller.announce(this.reductionText())}get state(){return this.controller.state}set(e){this.controller.set(e)}get positionMm(){return L(this.volumes.grid,this.state.index)}setPosition(e){this.controller.set({index:le(this.volumes.grid,e)})}on(e,t){return this.listeners[e].add(t),()=>{this.listeners[e].delete(t)}}addSlab(e,t,r){this.volumes.add(e,t,r);let o=this.volumes.arrival(e);o!==null&&this.emit("arrival",{volume:e,ready:o.ready,slices:o.slices}),this.volumes.isComplete?(this.controller.announce("All slices have arrived."),this.schedule()):this.arriving===0&&(this.arriving=window.setTimeout(()=>{this.arriving=0,this.schedule()},this.arrivalMs),this.arrivalMs=Math.min(2*this.arrivalMs,tn))}valuesAlong(e,t,r,o){return(e==="cubic"||e==="difference")&&this.volumes.prepareCubic(),this.volumes.renderer.values([Y(this.state,e,t,r)],o,1)[0]}valuesOfPlane(e,t,r,o){(t==="cubic"||t==="difference")&&this.volumes.prepareCubic();let i=new _({plane:e,side:"both"},this.controller),a={left:t,right:t,divider:1},s=i.view(this.state,r,o),l=me(this.volumes.grid,this.controller.planes[e],this.state,s,a);return this.volumes.renderer.values([l],r,o)[0]}focus(){this.panes.length===0&&this.draw(),this.panes.at(0)?.element.focus()}draw(){cancelAnimationFrame(this.frame),this.frame=0;let{state:e}=this,t=[e.a,e.b];(e.showsProfile||e.overlay==="difference"||t.includes("cubic")||t.includes("difference"))&&this.volumes.prepareCubic();let{clientWidth:r,clientHeight:o}=this.stage;if(r<1||o<1||this.volumes.renderer.isLost)return;let i=Math.min(window.devicePixelRatio,rn),[a,s]=[Math.round(r*i),Math.round(o*i)];(this.canvas.width!==a||this.canvas.height!==s)&&([this.canvas.width,this.canvas.height]=[a,s]);let l=et(e,r,o);this.arrangePanes(l.map(({plane:u,side:c})=>({plane:u,side:c})));let{renderer:d,grid:h}=this.volumes;d.clear(),l.forEach((u,c)=>{let f=this.panes[c];f.update(u,this.drawing?.pane===f?this.drawing.line:null);let y=nt(u,o,i),b=f.view(e,y.width,y.height);d.draw(y,me(h,this.controller.planes[u.plane],e,b,f.shown(e)))}),this.updatePanels()}destroy(){cancelAnimationFrame(this.frame),window.clearInterval(this.blink),window.clearTimeout(this.arriving),this.resized.disconnect(),this.volumes.renderer.dispose(),this.root.remove()}emit(e,t){for(let r of this.listeners[e])r(t)}changed(e){let t=this.controller.state;window.clearInterval(this.blink),t.compare==="blink"&&(this.blink=window.setInterval(()=>{this.controller.set({showsB:!this.controller.state.showsB})},nn)),this.toolbar.update(t),this.schedule(),e!==t&&(this.emit("change",{before:e,after:t}),e.index!==t.index&&this.emit("position",{positionMm:this.positionMm}))}schedule(){this.frame===0&&(this.frame=requestAnimationFrame(()=>{this.draw()}))}arrangePanes(e){if(e.length===this.panes.length&&e.every((o,i)=>o.plane===this.panes[i].key.plane&&o.side===this.panes[i].key.side))return;let r=this.panes.some(o=>o.element.contains(document.activeElement));for(let o of this.panes)o.element.remove();this.panes=e.map(o=>{let i=new _(o,this.controller);return i.element.addEventListener("focusin",()=>{this.focused=o.plane}),new re(i,this.controller,{hover:a=>{this.hovered=a,this.schedule()},drawing:(a,s)=>{this.drawing=s===null?null:{pane:a,line:s},this.schedule()}}),i}),this.stage.append(...this.panes.map(o=>o.element)),r&&(this.panes.find(o=>o.key.plane===this.focused)??this.panes[0]).element.focus()}updatePanels(){let{state:e}=this,{renderer:t,grid:r,modes:o}=this.volumes;if(this.legend.update(e),this.profile.element.hidden=!e.showsProfile,e.showsProfile){let s=["thick","cubic","thin"].filter(c=>o.includes(c)),[,l,d]=e.index,h=s.map(c=>Y(e,c,[0,l,d],[1,0,0])),u=t.values(h,r.shape[0],1);this.profile.update(s.map((c,f)=>({mode:c,values:u[f]})),e.index[0])}this.readout.textContent=this.readoutText();let i=["thick","thin","deviation"].map(s=>({volume:s,arrival:this.volumes.arrival(s)})).filter(({arrival:s})=>s!==null&&s.ready<s.slices).map(({volume:s,arrival:l})=>`${k[s]}: ${l?.ready??0} of ${l?.slices??0} slices`),a=this.volumes.reductionOfSource>1?[this.reductionText()]:[];this.progress.textContent=[...a,...i].join("  ")}readoutText(){let{state:e}=this,{renderer:t,grid:r,modes:o}=this.volumes,i=this.hovered??e.index,a=["thick",e.a,e.b,"thin","deviation"],s=o.filter(u=>a.includes(u)&&(t.hasCubic||u!=="cubic"&&u!=="difference")),l=t.values(s.map(u=>Y(e,u,i,[0,0,0])),1,1),d=s.flatMap((u,c)=>Number.isNaN(l[c][0])?[]:[`${k[u]} ${E(l[c][0])}`]);return`${this.hovered===null?"Crosshair":"Pointer"}  ${_e(L(r,i))}${d.length>0?`  |  HU:  ${d.join(" \xB7 ")}`:""}`}reductionText(){let{reductionOfSource:e}=this.volumes;return`Reduced: ${e} x ${e} pixels are shown as one, their mean, because the volume is large.`}factRows(e){let t=o=>{let[i,a,s]=o.shape,[l,d,h]=o.spacingMm.map(u=>u===null?"unknown":`${Number(u.toFixed(4))}`);return`${i} slices of ${a} x ${s}; ${l} x ${d} x ${h} mm`},r=this.volumes.reductionOfSource>1?[["Shown",this.reductionText()]]:[];return[["Thick volume",t(e.thick)],["Thin grid",t(e.thin)],...r,...e.facts??[]]}keyed=e=>{let t=e.target instanceof Element?e.target:null;if(t?.closest("input, select, dialog")!=null)return;let r=t?.closest(".ts-pane")!=null,o=Qe(e,r);if(o===void 0)return;e.preventDefault();let i=this.panes.some(s=>s.key.plane===this.focused),a={controller:this.controller,plane:i?this.focused:this.panes.at(0)?.key.plane??$[0],inPane:r,toggleFullScreen:()=>{this.toggleFullScreen()},showHelp:()=>{this.help.showModal()}};o.run(a,e.key.length===1?e.key.toLowerCase():e.key)};toggleFullScreen(){(document.fullscreenElement===null?this.root.requestFullscreen():document.exitFullscreen()).catch(()=>{this.controller.announce("This browser does not allow full screen here.")})}lost=e=>{e.preventDefault(),this.controller.announce("The browser has taken the graphics memory; the pictures come back with it.")};restored=()=>{this.volumes.restore(),S(this.canvas,{"data-restored":!0}),this.emit("restored",{}),this.schedule()}};function an(n){return n<on?{planes:"axial"}:{}}function ln(n){let e=n.getRootNode(),t=e instanceof ShadowRoot?e:document;if(ct.has(t))return;ct.add(t);let r=new CSSStyleSheet;r.replaceSync(it),t.adoptedStyleSheets.push(r)}var ct=new WeakSet;async function ht(n){try{if(!("DecompressionStream"in window))throw new v("This browser cannot open compressed data; use a current Firefox, Chrome, Edge or Safari.");let e=JSON.parse(dt(document.getElementById("thinslice-volumes")?.textContent)),t=se(n,e.options);t.focus();let r=async o=>{let[,i,a]=e.options.thin.shape,s=cn();for(let l of e.slabs.filter(({volume:d})=>o.includes(d))){let d=await dn(dt(s.get(l.name)));t.addSlab(l.volume,l.first,U(d,l.slices*i*a,i,a))}};return t.on("restored",()=>{r(["thin","deviation"])}),await r(["thick","thin","deviation"]),t}catch(e){if(!(e instanceof v||e instanceof A))throw e;return n.append(p("p",{role:"alert",class:"ts-fault"},e.message)),null}}function cn(){let n=new Map;for(let e of document.body.childNodes){if(!(e instanceof Comment))continue;let t=e.data.indexOf(":");n.set(e.data.slice(0,t),e.data.slice(t+1))}return n}function dt(n){if(n==null)throw new v("This file is damaged: a part of it is missing. Copy it again.");return n}async function dn(n){let e=new Blob([hn(n)]).stream().pipeThrough(new DecompressionStream("gzip"));return new Uint8Array(await new Response(e).arrayBuffer())}function hn(n){let{fromBase64:e}=Uint8Array;if(e!==void 0)return e.call(Uint8Array,n);let t=atob(n),r=new Uint8Array(t.length);for(let o=0;o<t.length;o++)r[o]=t.charCodeAt(o);return r}return wt(un);})();
